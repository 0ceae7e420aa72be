"""The arguments of the commands, group by group, and the options of an edit that they give."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any, cast

from .contract import DEFAULT_LIMITS, OPTIONS, Parameter
from .contract.parameter import Group
from .many import CONCURRENCY
from .options import CommonOptions, SweepOptions

NO_WORDS: Mapping[str, str] = {}


def add_input(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", metavar="IN", help="WAV or FLAC; MP3, M4A, OGG, video with PyAV")


def add_options(
    parser: argparse.ArgumentParser | argparse._ArgumentGroup,
    group: Group,
    words: Mapping[str, str] = NO_WORDS,
    **more: Any,
) -> None:
    """The options of a group of the contract. words: that the help of some of them says besides,
    by their name. more: settings of argparse for all."""
    for row in OPTIONS.values():
        if row.group == group:
            parser.add_argument(row.flag, **_settings(row, words.get(row.name, "")), **more)


def _settings(row: Parameter, words: str) -> dict[str, Any]:
    """How argparse reads an option."""
    default = words or f"default: {row.client_default or row.default_text}"
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
    add_options(parser.add_argument_group("what it becomes, one of them at least"), "target")


def add_targets(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("what it becomes, one of the two")
    either = what.add_mutually_exclusive_group(required=True)
    either.add_argument("--all", action="store_true", help="all of `melodyflow variations`")
    either.add_argument(
        "--variation",
        action="append",
        dest="variations",
        metavar="NAME",
        help="one of them; again for more",
    )


def add_edit(parser: argparse.ArgumentParser, seed: str = "", *, new_take: bool = True) -> None:
    """What is about a clip, and how it is solved. seed: its default, in words."""
    add_options(
        parser.add_argument_group("how far it goes from the source, one of them at most"),
        "distance",
    )
    add_options(parser.add_argument_group("how much of it; default: all"), "part")
    solve = parser.add_argument_group("how it is solved; default: as the variation says")
    add_solve(solve, seed)
    if new_take:
        add_options(solve, "take")
    add_options(solve, "inversion")


def add_solve(solve: argparse._ArgumentGroup, seed: str = "") -> None:
    add_options(solve, "solve", {"seed": seed})


def add_result(
    parser: argparse.ArgumentParser, metavar: str, where: str, words: Mapping[str, str] = NO_WORDS
) -> None:
    result = parser.add_argument_group("the result")
    result.add_argument("-o", "--output", metavar=metavar, help=where)
    add_options(result, "result", words)


def add_request(parser: argparse.ArgumentParser, timeout: str) -> argparse._ArgumentGroup:
    request = parser.add_argument_group("the request")
    add_options(request, "request", {"timeout": timeout})
    return request


def add_concurrency(request: argparse._ArgumentGroup) -> None:
    request.add_argument(
        "--concurrency",
        type=int,
        default=CONCURRENCY,
        metavar="N",
        help=f"edits at once; default {CONCURRENCY}",
    )


def add_server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--server",
        metavar="HOST:PORT",
        help="gRPC endpoint; default: $MELODYFLOW_SERVER, else 127.0.0.1:8001",
    )


def add_metrics(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--metrics",
        metavar="URL",
        help="Triton's metrics, for the queue; default: two ports above the server's",
    )


def add_presets(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--presets",
        metavar="FILE",
        help="a JSON file of variations of your own, over the shipped ones; "
        "default: $MELODYFLOW_PRESETS",
    )


def common_options(arguments: argparse.Namespace) -> CommonOptions:
    """The options that edits and text-to-music share."""
    return cast(CommonOptions, _options(arguments, CommonOptions.__annotations__))


def edit_options(arguments: argparse.Namespace) -> SweepOptions:
    """The options that an edit, takes of it and a sweep share."""
    return cast(SweepOptions, _options(arguments, SweepOptions.__annotations__))


def _options(arguments: argparse.Namespace, names: Mapping[str, Any]) -> dict[str, Any]:
    return {name: getattr(arguments, name) for name in names}
