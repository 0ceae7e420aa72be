"""`melodyflow generate`: makes music from text alone."""

from __future__ import annotations

import argparse
import sys

from ..client import MelodyFlowClient
from ..contract import DEFAULT_LIMITS
from ..presets import CUSTOM
from .arguments import (
    add_common,
    add_options,
    add_request,
    add_result,
    add_solve,
    add_target,
    common_options,
)
from .command import AddCommand
from .output import container_of, least_bytes, prepare_output, suffix, write
from .preview import add_preview, follow
from .progress import display

_NOTES = """\
examples:
  melodyflow generate --prompt "lo-fi piano and vinyl crackle" --duration 10 -o lofi.wav
  melodyflow generate --variation celtic --duration 20 --seed 7 --loudness -14

A variation lends its prompt only; its other settings are for edits.

"""


def add(add_command: AddCommand) -> None:
    """Adds the command."""
    parser = add_command("generate", _run, "make music from text alone", _NOTES)
    add_target(parser)
    add_options(parser, "music", {"duration": "required"}, required=True)
    add_solve(parser.add_argument_group("solver; default: midpoint"), "default: random")
    add_result(
        parser,
        "OUT",
        "file, folder, or - for standard output; default: NAME.wav in the current folder, "
        "numbered if it exists",
        {"format": "default: from OUT, else wav"},
    )
    add_preview(parser)
    add_request(parser, "for the whole request, retries included")
    add_common(parser, "details")


def _run(arguments: argparse.Namespace) -> int:
    name = arguments.variation or CUSTOM
    container = container_of(arguments)
    output = prepare_output(arguments.output, f"{name}{suffix(container)}")
    rate = arguments.sample_rate or DEFAULT_LIMITS["min_sample_rate"]
    output.check(least_bytes(container, arguments.duration * rate, channels=1))
    on_progress = follow(arguments, lambda event: shown.show(name, event))
    options = common_options(arguments)
    options["format"] = container
    with (
        MelodyFlowClient(arguments.server, presets=arguments.presets) as client,
        display(sys.stderr, arguments.quiet) as shown,
    ):
        result = client.generate(
            arguments.prompt,
            duration=arguments.duration,
            variation=arguments.variation,
            on_progress=on_progress,
            **options,
        )
    return write(arguments, output, result)
