"""What a server accepts. Each limit is one of its settings; these are the defaults."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

# The mark in a model configuration: its settings are those in force.
IN_FORCE = "in_force"
MOST_SECONDS = 1e9  # of any time: nobody can wait longer, nor count the samples


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of one server, named like its settings."""

    max_audio_bytes: int = 256 * 2**20  # of a file, after base64
    max_channels: int = 2
    min_sample_rate: int = 8000  # Hz, of input and result
    max_sample_rate: int = 192000
    min_seconds: float = 0.1  # of a clip, a region and text-to-music
    max_seconds: float = 600.0  # of a clip and of text-to-music; 0: the checkpoint's window
    max_prompt_characters: int = 1000  # of `prompt` and of `source_prompt`


LIMIT_NAMES = tuple(field.name for field in fields(Limits))
DEFAULT_LIMITS: Mapping[str, float] = asdict(Limits())


def told(parameters: Mapping[str, str]) -> dict[str, float]:
    """A server's limits by name, from the `parameters` of its model configuration.

    Empty without the mark IN_FORCE: whatever started that server didn't write its environment's
    overrides into the configuration. A limit of 0 is known only to the checkpoint.
    """
    if parameters.get(IN_FORCE) != "true":
        return {}
    limits = {}
    for name in LIMIT_NAMES:
        try:
            limit = float(parameters.get(name, ""))
        except ValueError:
            continue
        if 0 < limit < math.inf:
            limits[name] = int(limit) if limit.is_integer() else limit
    return limits
