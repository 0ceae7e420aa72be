"""Runs a batch, a sweep or takes: every result is written as it arrives."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import closing
from typing import TypeVar

from ..audio import Clip
from ..client import MelodyFlowClient
from ..errors import InvalidRequest, MelodyFlowError
from ..presets import Presets
from ..responses import Progress
from ..sweep import SweepResult
from ..takes import TakeResult
from .details import details_of, warn
from .draft import how_to_finish
from .failures import common_exit_code, complain
from .input import load_clip, named_after
from .output import STANDARD_OUTPUT, Output, least_bytes_of_edit, prepare_output, suffix
from .progress import display
from .streams import json_text, say, shown_name

Details = dict[str, object]
Ended = TypeVar("Ended", SweepResult, TakeResult)


def run_batch(
    arguments: argparse.Namespace,
    presets: Presets,
    asked: Mapping[str, Details],
    begin: Callable[
        [MelodyFlowClient, Clip, Callable[[str, Progress], None]], Generator[Ended, None, None]
    ],
    name_of: Callable[[Ended], str],
) -> int:
    """Runs the edits, writes their results and returns the exit code.

    asked: the edits by name, each with what identifies it in JSON should it fail. begin: starts
    the batch, given the client, the clip and what to call with each edit's progress. name_of: the
    name of the edit that ended.
    """
    succeeded: dict[str, Details] = {}
    failed: dict[str, MelodyFlowError] = {}
    warnings: tuple[str, ...] = ()
    misplaced = False
    outputs = _outputs(arguments, asked)
    clip, _ = load_clip(arguments.input)
    size = least_bytes_of_edit(clip, arguments.format, arguments.sample_rate)
    next(iter(outputs.values())).check(len(outputs) * size)  # all are in one folder
    try:
        with (
            MelodyFlowClient(arguments.server, presets=presets) as client,
            display(sys.stderr, arguments.quiet) as shown,
            closing(begin(client, clip, shown.show)) as results,
        ):
            for ended in results:
                name = name_of(ended)
                if ended.error is not None:
                    failed[name] = ended.error
                    shown.end(name, "failed")
                    if arguments.json:
                        say(json_text(asked[name] | _failure(ended.error), sys.stdout, None))
                elif ended.result is not None:
                    warnings = ended.result.warnings  # all are about the one input
                    saved = outputs[name].save(ended.result)
                    misplaced = misplaced or not saved.as_asked
                    if saved.path is None:
                        shown.end(name, "failed")
                        continue
                    succeeded[name] = details_of(saved.path, ended.result)
                    shown.end(name, "done")
                    say(
                        json_text(succeeded[name], sys.stdout, None)
                        if arguments.json
                        else saved.path
                    )
    finally:  # after Ctrl-C, too: the files that were written stay
        warn(warnings)
        if succeeded and not (arguments.quiet or arguments.json):
            _print_table(list(asked), succeeded, failed)
            if arguments.draft:
                print(how_to_finish(each["seed"] for each in succeeded.values()), file=sys.stderr)
        _report_failures(failed)
    return common_exit_code(list(failed.values())) or (1 if misplaced else 0)


def _outputs(arguments: argparse.Namespace, names: Iterable[str]) -> dict[str, Output]:
    """Where the result of each edit goes. Raises InvalidRequest."""
    if arguments.output == STANDARD_OUTPUT:
        raise InvalidRequest("output: standard output takes one result only; name a folder")
    source = arguments.input
    folder = "./" if arguments.output is None else os.path.join(arguments.output, "")
    end = suffix(arguments.format)
    return {name: prepare_output(folder, named_after(source, name + end), source) for name in names}


def _failure(error: MelodyFlowError) -> Details:
    return {"error": error.message, "status": error.status, "request_id": error.request_id}


def _print_table(
    names: list[str], succeeded: dict[str, Details], failed: dict[str, MelodyFlowError]
) -> None:
    width = max(len(name) for name in names)
    for name in names:
        if name in succeeded:
            details = succeeded[name]
            row = f"{details['seconds']:.3f} s  peak {details['peak']:.3f}  "
            row += shown_name(str(details["output"]))
        else:
            row = "failed" if name in failed else "-"
        print(f"{name:<{width}}  {row}", file=sys.stderr)
    seeds = {str(details["seed"]) for details in succeeded.values()}
    seed = f", seed {seeds.pop()}" if len(seeds) == 1 else ""  # takes have it in their names
    print(f"{len(succeeded)} of {len(names)} done{seed}", file=sys.stderr)


def _report_failures(failed: dict[str, MelodyFlowError]) -> None:
    """One line for each distinct error, however many edits it ended."""
    by_text: dict[str, list[str]] = {}
    for name, error in failed.items():
        by_text.setdefault(error.message, []).append(name)
    for names in by_text.values():
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        complain(failed[names[0]], about=f"{', '.join(names[:3])}{more}: ")
