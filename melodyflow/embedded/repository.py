"""Makes the model repository that Triton loads: a copy with the settings in force in its
configuration, so that clients can read the actual limits from Triton.

Triton shows a model's configuration, but not the environment variables that override it. The
original repository isn't modified and may be read-only. The checkpoint's path isn't written,
because anyone who can reach Triton's ports can read the configuration.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from melodyflow.contract import IN_FORCE
from melodyflow.serving.settings import PREFIX

SETTING = re.compile(r'(key:\s*"(\w+)"\s*value\s*\{\s*string_value:\s*")(?:[^"\\]|\\.)*(")')

MARK = f'''
parameters {{ key: "{IN_FORCE}" value {{ string_value: "true" }} }}
'''


def write_repository(repository: Path, folder: Path, environment: Mapping[str, str]) -> Path:
    """Makes `folder` a copy of `repository`, with links for everything but the configurations."""
    folder.mkdir(parents=True)
    for model in repository.iterdir():
        if not model.is_dir():
            continue
        (folder / model.name).mkdir()
        for entry in model.iterdir():
            copy = folder / model.name / entry.name
            if entry.name == "config.pbtxt":
                copy.write_text(in_force(entry.read_text(), environment))
            else:
                copy.symlink_to(entry.resolve())
    return folder


def in_force(config: str, environment: Mapping[str, str]) -> str:
    """Puts the environment's overrides into the text of a config.pbtxt, with a mark that says so.
    An empty value counts as not set, as in `read_settings`."""

    def setting(found: re.Match[str]) -> str:
        value = environment.get(PREFIX + found[2].upper())
        if not value or found[2] == "checkpoint":
            return found[0]
        return f"{found[1]}{escaped(value)}{found[3]}"

    text, settings = SETTING.subn(setting, config)
    return text + MARK if settings else text


def escaped(value: str) -> str:
    """Escapes a value for protobuf's text format."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
