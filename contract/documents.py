"""scripts/contract: generates what is made from the contract. Not part of the wheels."""

import argparse
import json
import re
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .limits import DEFAULT_LIMITS
from .outputs import OUTPUTS, Output
from .parameter import Parameter
from .parameters import (
    INPUTS,
    OPTIONS,
    PARAMETERS,
    PRESET_SETTINGS,
    REQUEST,
)
from .version import __version__

ROOT = Path(__file__).resolve().parent.parent
CONFIG = "model_repository/melodyflow/config.pbtxt"
SCHEMA = "contract/presets.schema.json"
CLIENT_OPTIONS = "client/melodyflow_client/options.py"
# The client's extra and the gateway's requirement name each other's version; images are tagged.
VERSIONED = (
    "client/pyproject.toml",
    "gateway/pyproject.toml",
    "Dockerfile.triton",
    "Dockerfile.gateway",
    "docker-compose.yml",
)


def main(arguments: list[str]) -> int:
    """Rewrites files that are out of date; --check only names them and returns 1."""
    parser = argparse.ArgumentParser(
        prog="scripts/contract",
        description="Generates the tables in the documents, config.pbtxt's tensors, the schema of "
        "variations, the client's typed options and the version from contract/.",
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing, name files that are out of date"
    )
    check = parser.parse_args(arguments).check
    stale = {
        name: text
        for name, text in documents().items()
        if not (ROOT / name).exists() or (ROOT / name).read_text() != text
    }
    for name, text in stale.items():
        if check:
            print(f"{name}: out of date; run scripts/contract")
        else:
            (ROOT / name).write_text(text)
            print(f"wrote {name}")
    return 1 if check and stale else 0


def documents() -> dict[str, str]:
    """Everything that is made from the contract, by file."""
    tables = {
        "docs/contract.md": [
            ("inputs", inputs_table()),
            ("request", request_table()),
            ("outputs", outputs_table()),
            ("edits alone", edits_alone()),
        ],
        "docs/gateway.md": [("fields", fields_table())],
        "docs/options.md": [("options", options_table())],
    }
    made = {CONFIG: config(), SCHEMA: schema(), CLIENT_OPTIONS: client_options()}
    for name, parts in tables.items():
        made[name] = (ROOT / name).read_text()
        for part, table in parts:
            made[name] = put(made[name], f"<!-- contract: {part} -->", "<!-- end -->", table)
    for name in VERSIONED:
        made[name] = versioned((ROOT / name).read_text())
    return made


def put(text: str, begin: str, end: str, lines: str) -> str:
    """`text` with the lines between two markers replaced."""
    pattern = rf"^({re.escape(begin)}\n).*?^({re.escape(end)})$"
    made, count = re.subn(
        pattern,
        lambda found: f"{found[1]}{lines}{found[2]}",
        text,
        flags=re.MULTILINE | re.DOTALL,
    )
    if count != 1:
        raise SystemExit(f"{begin!r} and {end!r} after it: {count} times, not once")
    return made


def versioned(text: str) -> str:
    """`text` with the version put wherever one of our packages or images is named with one."""
    text, count = re.subn(
        r"(melodyflow-\w+(?:\[\w+\])?(?:==|:))\d[\w.]*", rf"\g<1>{__version__}", text
    )
    assert count
    return text


# --- tables ---------------------------------------------------------------------------------------


def lines_of(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [" | ".join(row) for row in [head, *rows]]
    lines = [f"| {line} |" for line in lines]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:], ""])


def meaning(row: Parameter, page: str, note: str = "") -> str:
    """What a parameter does, what is allowed, and a link to more on `page`."""
    more = f"[more]({page}#{row.section})" if row.section else ""
    return "; ".join(word for word in (row.meaning(), note, more) if word).format(**DEFAULT_LIMITS)


def inputs_table() -> str:
    rows = (
        (f"`{row.name}`", row.wire, "[1,1]", meaning(row, "", row.note), row.default_text)
        for row in INPUTS.values()
    )
    return lines_of(("name", "type", "shape", "meaning and range", "default"), rows)


def request_table() -> str:
    chosen = (PARAMETERS[name] for name in REQUEST)
    rows = ((f"`{row.name}`", row.sentence, row.default_text) for row in chosen)
    return lines_of(("name", "meaning", "default"), rows)


def outputs_table() -> str:
    def cells(row: Output) -> tuple[str, ...]:
        return f"`{row.name}`", row.wire, f"[1,{row.size}]", row.sentence, row.responses

    return lines_of(("name", "type", "shape", "meaning", "in"), map(cells, OUTPUTS.values()))


def edits_alone() -> str:
    """The inputs that text-to-music refuses, besides audio."""
    names = [row.name for row in INPUTS.values() if row.scope == "edit" and row.group]
    return f"{', '.join(f'`{name}`' for name in names)}.\n"


def options_table() -> str:
    rows = (
        (
            f"`{row.name}`",
            f"`{row.flag}`",
            meaning(row, "contract.md"),
            row.client_default or row.default_text,
        )
        for row in OPTIONS.values()
    )
    return lines_of(("name", "command", "meaning and range", "default"), rows)


def fields_table() -> str:
    def cells(row: Parameter) -> tuple[str, ...]:
        # Unlike the clients, the gateway leaves loudness and priority to the server's defaults.
        own = row.name not in ("loudness", "priority") and row.client_default
        return f"`{row.field_name}`", meaning(row, "contract.md"), own or row.default_text

    return lines_of(("field", "meaning and range", "default"), map(cells, OPTIONS.values()))


# --- config.pbtxt and the schema ------------------------------------------------------------------


def config() -> str:
    """config.pbtxt with the contract's tensors."""

    def tensor(name: str, wire: str, size: int, more: str = "") -> str:
        quoted, kind = f'"{name}"', "TYPE_" + ("STRING" if wire == "BYTES" else wire)
        return f"  {{ name: {quoted:<19} data_type: {kind:<11} dims: [ {size} ]{more} }}"

    inputs = [
        tensor(row.name, row.wire, 1, "" if row.name == "prompt" else " optional: true")
        for row in INPUTS.values()
    ]
    outputs = [tensor(row.name, row.wire, row.size) for row in OUTPUTS.values()]
    text = (ROOT / CONFIG).read_text()
    for kind, tensors in (("input", inputs), ("output", outputs)):
        text = put(text, f"{kind} [", "]", ",\n".join(tensors) + "\n")
    return text


def schema() -> str:
    """The schema of variations with the contract's settings and ranges."""
    document = json.loads((ROOT / SCHEMA).read_text())
    definitions = document["$defs"]
    for name, row in PRESET_SETTINGS.items():
        definitions[name] = {
            "description": row.sentence,
            "errorMessage": error_message(row),
            **bounds(row),
        }
    references = {name: {"$ref": f"#/$defs/{name}"} for name in PRESET_SETTINGS}
    document["properties"]["defaults"]["properties"] = references
    own = definitions["variation"]["properties"]
    shortest, longest = PARAMETERS["prompt"].bounds()
    prompt = {
        "errorMessage": f"must be a string of {shortest} to {longest} characters",
        "type": "string",
        "minLength": shortest,
        "maxLength": longest,
    }
    definitions["variation"]["properties"] = {
        "category": own["category"],
        "prompt": prompt,
        **references,
    }
    return json.dumps(document, indent=2) + "\n"


def error_message(row: Parameter) -> str:
    """What a value must be. Validators ignore the keyword; editors and the SDK show it."""
    if row.kind == "choice":
        return f"must be {' or '.join(row.choices)}"
    low, high = row.bounds()
    if row.kind == "whole":
        exception = "" if row.without is None else f" other than {row.without}"
        return f"must be a whole number from {low} to {high}{exception}"
    return (
        f"must be a number of at least {low} and {'less than' if row.below else 'at most'} {high}"
    )


def bounds(row: Parameter) -> dict[str, Any]:
    """The range of a number or a choice, in JSON Schema."""
    if row.kind == "choice":
        return {"enum": list(row.choices)}
    low, high = row.bounds()
    found: dict[str, Any] = {
        "type": "integer" if row.kind == "whole" else "number",
        "minimum": low,
        "exclusiveMaximum" if row.below else "maximum": high,
    }
    return found if row.without is None else {**found, "not": {"const": row.without}}


# --- the client's options -------------------------------------------------------------------------

HEAD = '''"""The client's options, typed. Generated by scripts/contract."""

from typing import TypedDict
'''


def client_options() -> str:
    """The options of an edit and of text-to-music, as typed dictionaries."""
    both = [row for row in OPTIONS.values() if row.scope == "both"]
    targets = [row for row in OPTIONS.values() if row.group == "target"]
    common = [row for row in both if row not in targets]
    edits = [row for row in OPTIONS.values() if row.scope == "edit"]
    music = [row for row in OPTIONS.values() if row.scope == "music"]
    parts = [
        HEAD,
        typed("CommonOptions", "TypedDict", "Options of both edits and text-to-music.", common),
        typed(
            "SweepOptions",
            "CommonOptions",
            "Options of each edit in a sweep: those of an edit without variation and prompt.",
            edits,
        ),
        typed(
            "EditOptions",
            "SweepOptions",
            "Options of an edit. Give variation or prompt, or both; everything else is optional.",
            targets,
        ),
        typed(
            "GenerateOptions",
            "CommonOptions",
            "Options of text-to-music, besides its prompt. Needs a duration; of a variation, only "
            "the prompt is used.",
            [*music, *(row for row in targets if row.name != "prompt")],
        ),
    ]
    return "\n\n".join(parts)


def typed(name: str, base: str, says: str, rows: list[Parameter]) -> str:
    lines = [f"class {name}({base}, total=False):", *wrapped(f'"""{says}"""')]
    for row in rows:
        default = row.client_default or row.default_text
        text = row.meaning()
        lines += ["", *wrapped(f"{text[0].upper()}{text[1:]}. Default: {default}.", "# ")]
        lines.append(f"    {row.name}: {row.python_type}")
    return "\n".join(lines) + "\n"


def wrapped(text: str, sign: str = "") -> list[str]:
    return textwrap.wrap(text, 100, initial_indent="    " + sign, subsequent_indent="    " + sign)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
