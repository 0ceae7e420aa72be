"""The arguments that commands share, and the options of an edit they stand for."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any, cast

from ..batch import CONCURRENCY
from ..contract import DEFAULT_LIMITS, OPTIONS, Parameter
from ..contract.parameter import Group
from ..options import CommonOptions, EditOptions, SweepOptions
from .draft import add_draft, steps_of

_NO_DEFAULTS: Mapping[str, str] = {}


def add_input(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "input",
        metavar="IN",
        help="WAV or FLAC; with PyAV, MP3, M4A, OGG and video; - is standard input",
    )


def add_options(
    parser: argparse.ArgumentParser | argparse._ArgumentGroup,
    group: Group,
    defaults: Mapping[str, str] = _NO_DEFAULTS,
    **settings: Any,
) -> None:
    """Adds the options of a group of the contract.

    defaults: how the help states the default of some of them, by name, if not as the contract does.
    settings: of argparse, for all of them.
    """
    for row in OPTIONS.values():
        if row.group == group:
            parser.add_argument(row.flag, **_settings(row, defaults.get(row.name, "")), **settings)


def _settings(row: Parameter, default: str) -> dict[str, Any]:
    """How argparse reads an option."""
    default = default or f"default: {row.client_default or row.default_text}"
    text = f"{row.meaning()}; {default}".format(**DEFAULT_LIMITS)
    text = text.replace("`", "").replace("%", "%%")
    if row.kind == "switch":
        action = "store_false" if row.default else "store_true"
        return {"dest": row.name, "action": action, "help": text.partition(";")[0]}
    types = {"whole": (int, "N"), "number": (float, "X"), "choice": (str, "NAME")}
    kind, metavar = types.get(row.kind, (str, "TEXT"))
    units = {"s": "SECONDS", "Hz": "HZ", "LUFS": "LUFS"}
    return {"type": kind, "metavar": units.get(row.unit, metavar), "help": text}


def add_target(parser: argparse.ArgumentParser) -> None:
    add_options(parser.add_argument_group("target; at least one is required"), "target")


def add_targets(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("target; one of the two is required")
    either = what.add_mutually_exclusive_group(required=True)
    either.add_argument(
        "--all", action="store_true", help="all variations; `melodyflow variations` lists them"
    )
    either.add_argument(
        "--variation",
        action="append",
        dest="variations",
        metavar="NAME",
        help="one variation; repeat it for more",
    )


def add_edit(parser: argparse.ArgumentParser, seed: str = "", *, new_take: bool = True) -> None:
    """Adds the options of an edit of a clip. seed: its default, in words."""
    add_options(
        parser.add_argument_group("distance from the source; at most one of them"),
        "distance",
    )
    add_options(parser.add_argument_group("region; default: the whole clip"), "part")
    solve = parser.add_argument_group("solver; default: the variation's")
    add_solve(solve, seed)
    if new_take:
        add_options(solve, "take")
    add_options(solve, "inversion")


def add_solve(solve: argparse._ArgumentGroup, seed: str = "") -> None:
    add_options(solve, "solve", {"seed": seed})
    add_draft(solve)


def add_result(
    parser: argparse.ArgumentParser,
    metavar: str,
    where: str,
    defaults: Mapping[str, str] = _NO_DEFAULTS,
) -> None:
    result = parser.add_argument_group("result")
    result.add_argument("-o", "--output", metavar=metavar, help=where)
    add_options(result, "result", defaults)


def add_request(parser: argparse.ArgumentParser, timeout: str) -> argparse._ArgumentGroup:
    request = parser.add_argument_group("request")
    add_options(request, "request", {"timeout": timeout})
    return request


def add_concurrency(request: argparse._ArgumentGroup) -> None:
    request.add_argument(
        "--concurrency",
        type=int,
        default=CONCURRENCY,
        metavar="N",
        help=f"how many edits run at once; default: {CONCURRENCY}",
    )


def add_server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--server",
        metavar="HOST:PORT",
        help="gRPC endpoint, https://HOST:PORT for TLS; default: $MELODYFLOW_SERVER, "
        "else 127.0.0.1:8001. $MELODYFLOW_API_KEY is sent to a server that asks for a key",
    )


def add_metrics(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--metrics",
        metavar="URL",
        help="Triton's metrics, which have the queue; default: two ports above the server's",
    )


def add_presets(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--presets",
        metavar="FILE",
        help="JSON file of your own variations, added to the built-in ones; "
        "default: $MELODYFLOW_PRESETS",
    )


def add_common(parser: argparse.ArgumentParser, report: str) -> None:
    """What all commands that edit have. report: what they print at the end, unless quiet."""
    add_server(parser)
    add_presets(parser)
    parser.add_argument("--quiet", "-q", action="store_true", help=f"no progress, no {report}")


def common_options(arguments: argparse.Namespace) -> CommonOptions:
    """The options shared by edits and text-to-music."""
    return cast(CommonOptions, _options(arguments, CommonOptions.__annotations__))


def edit_options(arguments: argparse.Namespace) -> EditOptions:
    """The options shared by transform and takes."""
    return cast(EditOptions, _options(arguments, EditOptions.__annotations__))


def sweep_options(arguments: argparse.Namespace) -> SweepOptions:
    """The same without a target, of which a sweep has many."""
    return cast(SweepOptions, _options(arguments, SweepOptions.__annotations__))


def _options(arguments: argparse.Namespace, names: Mapping[str, Any]) -> dict[str, Any]:
    options = {name: getattr(arguments, name) for name in names if name in arguments}
    return options | {"steps": steps_of(arguments)}
