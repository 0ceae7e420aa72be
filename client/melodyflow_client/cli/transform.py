"""`melodyflow transform`: edits an audio file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..client import MelodyFlowClient
from ..presets import CUSTOM
from .arguments import (
    add_common,
    add_edit,
    add_input,
    add_request,
    add_result,
    add_target,
    edit_options,
)
from .command import AddCommand
from .output import container_of, prepare_output, suffix, write
from .progress import display

_NOTES = """\
examples:
  melodyflow transform riff.wav --variation piano_classical
  melodyflow transform riff.wav --variation piano_classical --flowstep 0.05    (more change)
  melodyflow transform riff.wav --variation piano_classical --new-take -o take2.wav
  melodyflow transform song.mp3 --prompt "eight-bit chiptune, playful" --json
  melodyflow transform song.wav --variation celtic --start 2.0 --end 6.5    (only that part)
  melodyflow transform loop.wav --variation trap_808 --loop --loudness -14

Prints the path of the result, or with --json its details, on standard output. Progress and
messages go to standard error.

"""


def add(add_command: AddCommand) -> None:
    """Adds the command."""
    parser = add_command("transform", _run, "edit an audio file", _NOTES)
    add_input(parser)
    add_target(parser)
    add_edit(parser)
    add_result(
        parser,
        "OUT",
        "file or folder; default: IN-NAME.wav in the current folder, numbered if it exists",
        {"format": "default: from OUT, else wav"},
    )
    add_request(parser, "for the edit, retries included")
    add_common(parser, "details")


def _run(arguments: argparse.Namespace) -> int:
    source, name = Path(arguments.input), arguments.variation or CUSTOM
    container = container_of(arguments)
    output = prepare_output(arguments.output, f"{source.stem}-{name}{suffix(container)}", source)
    options = edit_options(arguments)
    options["format"] = container
    with (
        MelodyFlowClient(arguments.server, presets=arguments.presets) as client,
        display(sys.stderr, arguments.quiet) as shown,
    ):
        result = client.transform(
            source,
            variation=arguments.variation,
            prompt=arguments.prompt,
            on_progress=lambda event: shown.show(name, event),
            **options,
        )
    write(arguments, output, result)
    return 0
