"""`melodyflow sweep`: edits an audio file to several variations."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Generator

from ..audio import Clip
from ..client import MelodyFlowClient
from ..presets import load_presets
from ..responses import Progress
from ..sweep import SweepResult, plan_sweep
from .arguments import (
    add_common,
    add_concurrency,
    add_edit,
    add_input,
    add_request,
    add_result,
    add_targets,
    sweep_options,
)
from .batch import Details, run_batch
from .command import AddCommand

_NOTES = """\
examples:
  melodyflow sweep riff.wav --all -o out/
  melodyflow sweep riff.wav --variation celtic --variation chiptune --variation music_box
  melodyflow sweep riff.wav --all --strength 0.95 --format flac -o out/
  melodyflow sweep riff.wav --all --new-take --json -o out/ > takes.jsonl

All edits share one seed, so they compare well and the server inverts the clip only once. They have
low priority: single edits overtake them. Up to --concurrency edits run at once.

Each result is written to DIR as it arrives. Standard output gets its path, or with --json its
details, one JSON object per line (for a failed edit: variation, error, status, request_id).
Progress, and a table and the errors at the end, go to standard error. One failure doesn't affect
the rest; the exit code is then that of the failures, or 4 if they differ.

"""


def add(add_command: AddCommand) -> None:
    """Adds the command."""
    parser = add_command("sweep", _run, "edit an audio file to several variations", _NOTES)
    add_input(parser)
    add_targets(parser)
    add_edit(parser)
    add_result(
        parser,
        "DIR",
        "folder for each variation's IN-NAME.wav, numbered if it exists; "
        "default: the current folder",
    )
    add_concurrency(add_request(parser, "for each edit, retries included"))
    add_common(parser, "table")


def _run(arguments: argparse.Namespace) -> int:
    presets = load_presets(arguments.presets)
    names = list(dict.fromkeys(arguments.variations or presets))
    options = sweep_options(arguments)
    plan_sweep(names, arguments.concurrency, options, presets)  # told before the input is read

    def begin(
        client: MelodyFlowClient, clip: Clip, show: Callable[[str, Progress], None]
    ) -> Generator[SweepResult, None, None]:
        return client.sweep(
            clip,
            names,
            concurrency=arguments.concurrency,
            on_progress=show,
            **options,
        )

    asked: dict[str, Details] = {name: {"variation": name} for name in names}
    return run_batch(arguments, presets, asked, begin, lambda ended: ended.variation)
