"""Runs a batch, a sweep or takes: every result is written as it arrives."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from ..client import MelodyFlowClient
from ..errors import MelodyFlowError
from ..presets import Presets
from ..responses import Progress
from ..sweep import SweepResult
from ..takes import TakeResult
from .failures import common_exit_code, complain
from .output import details_of, prepare_output, suffix, warn
from .progress import display

Details = dict[str, object]
Ended = TypeVar("Ended", SweepResult, TakeResult)


def run_batch(
    arguments: argparse.Namespace,
    presets: Presets,
    asked: Mapping[str, Details],
    begin: Callable[
        [MelodyFlowClient, Callable[[str, Progress], None]], Generator[Ended, None, None]
    ],
    name_of: Callable[[Ended], str],
) -> int:
    """Runs the edits, writes their results and returns the exit code.

    asked: the edits by name, each with what identifies it in JSON should it fail. begin: starts
    the batch, given the client and what to call with each edit's progress. name_of: the name of
    the edit that ended.
    """
    succeeded: dict[str, Details] = {}
    failed: dict[str, MelodyFlowError] = {}
    warnings: tuple[str, ...] = ()
    source = Path(arguments.input)
    folder = os.path.join(arguments.output or ".", "")
    try:
        with (
            MelodyFlowClient(arguments.server, presets=presets) as client,
            display(sys.stderr, arguments.quiet) as shown,
            closing(begin(client, shown.show)) as results,
        ):
            outputs = {
                name: prepare_output(
                    folder, f"{source.stem}-{name}{suffix(arguments.format)}", source
                )
                for name in asked
            }
            for ended in results:
                name = name_of(ended)
                if ended.error is not None:
                    failed[name] = ended.error
                    shown.end(name, "failed")
                    if arguments.json:
                        print(json.dumps(asked[name] | _failure(ended.error)), flush=True)
                elif ended.result is not None:
                    ended.result.save(outputs[name])
                    warnings = ended.result.warnings  # all are about the one input
                    succeeded[name] = details_of(outputs[name], ended.result)
                    shown.end(name, "done")
                    line = (
                        json.dumps(succeeded[name], ensure_ascii=False)
                        if arguments.json
                        else outputs[name]
                    )
                    print(line, flush=True)
    finally:  # after Ctrl-C, too: the files that were written stay
        warn(warnings)
        if succeeded and not (arguments.quiet or arguments.json):
            _print_table(list(asked), succeeded, failed)
        _report_failures(failed)
    return common_exit_code(list(failed.values()))


def _failure(error: MelodyFlowError) -> Details:
    return {"error": error.message, "status": error.status, "request_id": error.request_id}


def _print_table(
    names: list[str], succeeded: dict[str, Details], failed: dict[str, MelodyFlowError]
) -> None:
    width = max(len(name) for name in names)
    for name in names:
        if name in succeeded:
            details = succeeded[name]
            row = f"{details['seconds']:.3f} s  peak {details['peak']:.3f}  {details['output']}"
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
