"""The commands that make many edits of a clip, each written as it arrives."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from .arguments import edit_options
from .client import MelodyFlowClient
from .contract import draw_seed
from .errors import MelodyFlowError
from .events import Progress
from .failures import common_exit_code, complain
from .output import facts_of, prepare_output, suffix
from .presets import CUSTOM, Presets, load_presets
from .progress import display
from .sweep import SweepResult
from .takes import TakeResult, take_seeds

Facts = dict[str, object]
Done = TypeVar("Done", SweepResult, TakeResult)


def sweep(arguments: argparse.Namespace) -> int:
    """Edits a file to many variations."""
    presets = load_presets(arguments.presets)
    names = list(dict.fromkeys(arguments.variations or presets))

    def begin(
        client: MelodyFlowClient, show: Callable[[str, Progress], None]
    ) -> Generator[SweepResult, None, None]:
        return client.sweep(
            arguments.input,
            names,
            concurrency=arguments.concurrency,
            on_progress=show,
            **edit_options(arguments),
        )

    asked: dict[str, Facts] = {name: {"variation": name} for name in names}
    return _run_all(arguments, presets, asked, begin, lambda done: done.variation)


def takes(arguments: argparse.Namespace) -> int:
    """Edits a file many times over."""
    variation = arguments.variation or CUSTOM
    if arguments.seed in (None, -1):  # drawn here, because the files' names have it
        arguments.seed = draw_seed()

    def name(seed: int) -> str:
        return f"{variation}-{seed}"

    def begin(
        client: MelodyFlowClient, show: Callable[[str, Progress], None]
    ) -> Generator[TakeResult, None, None]:
        return client.takes(
            arguments.input,
            arguments.count,
            concurrency=arguments.concurrency,
            on_progress=lambda seed, event: show(name(seed), event),
            variation=arguments.variation,
            prompt=arguments.prompt,
            **edit_options(arguments),
        )

    asked: dict[str, Facts] = {
        name(seed): {"variation": arguments.variation, "seed": seed}
        for seed in take_seeds(arguments.seed, arguments.count)
    }
    presets = load_presets(arguments.presets)
    return _run_all(arguments, presets, asked, begin, lambda done: name(done.seed))


def _run_all(
    arguments: argparse.Namespace,
    presets: Presets,
    asked: Mapping[str, Facts],
    begin: Callable[
        [MelodyFlowClient, Callable[[str, Progress], None]], Generator[Done, None, None]
    ],
    name_of: Callable[[Done], str],
) -> int:
    """Runs the edits and writes what comes; `asked`: name of each -> what tells it in JSON."""
    came: dict[str, Facts] = {}
    failed: dict[str, MelodyFlowError] = {}
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
            for done in results:
                name = name_of(done)
                if done.error is not None:
                    failed[name] = done.error
                    shown.end(name, "failed")
                    if arguments.json:
                        print(json.dumps(asked[name] | _failure(done.error)), flush=True)
                elif done.result is not None:
                    done.result.save(outputs[name])
                    came[name] = facts_of(outputs[name], done.result)
                    shown.end(name, "done")
                    line = (
                        json.dumps(came[name], ensure_ascii=False)
                        if arguments.json
                        else outputs[name]
                    )
                    print(line, flush=True)
    finally:  # after Ctrl-C too: what is written stays
        if came and not (arguments.quiet or arguments.json):
            _print_table(list(asked), came, failed)
        _complain_of_all(failed)
    return common_exit_code(list(failed.values()))


def _failure(error: MelodyFlowError) -> Facts:
    return {"error": error.message, "status": error.status, "request_id": error.request_id}


def _print_table(
    names: list[str], came: dict[str, Facts], failed: dict[str, MelodyFlowError]
) -> None:
    width = max(len(name) for name in names)
    for name in names:
        if name in came:
            facts = came[name]
            row = f"{facts['seconds']:.3f} s  peak {facts['peak']:.3f}  {facts['output']}"
        else:
            row = "failed" if name in failed else "-"
        print(f"{name:<{width}}  {row}", file=sys.stderr)
    seeds = {str(facts["seed"]) for facts in came.values()}
    seed = f", seed {seeds.pop()}" if len(seeds) == 1 else ""  # takes have it in their names
    print(f"{len(came)} of {len(names)} came{seed}", file=sys.stderr)


def _complain_of_all(failed: dict[str, MelodyFlowError]) -> None:
    """One line for each thing that went wrong, whatever the number of edits it ended."""
    by_text: dict[str, list[str]] = {}
    for name, error in failed.items():
        by_text.setdefault(error.message, []).append(name)
    for names in by_text.values():
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        complain(failed[names[0]], about=f"{', '.join(names[:3])}{more}: ")
