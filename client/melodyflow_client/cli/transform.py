"""`melodyflow transform`: edits an audio file."""

from __future__ import annotations

import argparse
import sys

from ..client import MelodyFlowClient
from ..presets import CUSTOM, load_presets
from ..protocol import plan
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
from .input import load_clip, named_after
from .output import container_of, least_bytes_of_edit, prepare_output, suffix, write
from .preview import add_preview, follow
from .progress import display

_NOTES = """\
examples:
  melodyflow transform riff.wav --variation piano_classical
  melodyflow transform riff.wav --variation piano_classical --flowstep 0.05    (more change)
  melodyflow transform riff.wav --variation piano_classical --new-take -o take2.wav
  melodyflow transform riff.wav --variation piano_classical --draft    (4 steps; says how to finish)
  melodyflow transform song.mp3 --prompt "eight-bit chiptune, playful" --json
  melodyflow transform song.wav --variation celtic --start 2.0 --end 6.5    (only that part)
  melodyflow transform song.wav --variation celtic --preview now.flac    (hear it while it forms)
  sox in.aiff -t wav - | melodyflow transform - --variation celtic -o - | aplay
  melodyflow transform loop.wav --variation trap_808 --loop --loudness -14

Prints the path of the result, or with --json its details, on standard output. Progress and
messages go to standard error; with -o - the details, too. Whatever would keep the result from being
written is told before the edit, as far as possible. If it still can't be written, it is saved
elsewhere, in the temporary folder if that works, standard error says where, and the exit code is 1.

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
        "file, folder, or - for standard output; default: IN-NAME.wav in the current folder, "
        "numbered if it exists",
        {"format": "default: from OUT, else wav"},
    )
    add_preview(parser)
    add_request(parser, "for the edit, retries included")
    add_common(parser, "details")


def _run(arguments: argparse.Namespace) -> int:
    name = arguments.variation or CUSTOM
    container = container_of(arguments)
    on_progress = follow(arguments, lambda event: shown.show(name, event))
    options = edit_options(arguments)
    options["format"] = container
    presets = load_presets(arguments.presets)
    plan(options, presets)  # what is wrong is told before the input is read
    output = prepare_output(
        arguments.output,
        named_after(arguments.input, f"{name}{suffix(container)}"),
        arguments.input,
    )
    clip, options["timeout"] = load_clip(arguments.input, arguments.timeout)
    output.check(least_bytes_of_edit(clip, container, arguments.sample_rate))
    with (
        MelodyFlowClient(arguments.server, presets=presets) as client,
        display(sys.stderr, arguments.quiet) as shown,
    ):
        result = client.transform(
            clip,
            on_progress=on_progress,
            **options,
        )
    return write(arguments, output, result)
