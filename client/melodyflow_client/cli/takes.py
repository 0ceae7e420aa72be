"""`melodyflow takes`: makes several takes of one edit."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Generator

from ..audio import Clip
from ..client import MelodyFlowClient
from ..contract import draw_seed
from ..presets import CUSTOM, load_presets
from ..responses import Progress
from ..takes import TAKES, TakeResult, plan_takes, take_seeds
from .arguments import (
    add_common,
    add_concurrency,
    add_edit,
    add_input,
    add_request,
    add_result,
    add_target,
    edit_options,
)
from .batch import Details, run_batch
from .command import AddCommand

_NOTES = """\
examples:
  melodyflow takes riff.wav --variation celtic -o out/
  melodyflow takes riff.wav --variation celtic --count 8 --seed 100 --strength 0.95 -o out/
  melodyflow takes riff.wav --variation celtic --count 8 --draft -o drafts/    (4 steps each)
  melodyflow transform riff.wav --variation celtic --seed 103 --format wav24    (the one you like)

The first take has the seed --seed, or a random one, and the others count up from it; each file's
name ends with its seed. The server encodes the clip and the prompt only once. Single edits
overtake takes. Output and failures are as for `melodyflow sweep`.

"""


def add(add_command: AddCommand) -> None:
    """Adds the command."""
    parser = add_command("takes", _run, "make several takes of one edit", _NOTES)
    add_input(parser)
    parser.add_argument(
        "--count", type=int, default=TAKES, metavar="N", help=f"how many takes; default: {TAKES}"
    )
    add_target(parser)
    add_edit(parser, "of the first take; default: random", new_take=False)
    add_result(
        parser,
        "DIR",
        "folder for each take's IN-NAME-SEED.wav, numbered if it exists; "
        "default: the current folder",
    )
    add_concurrency(add_request(parser, "for each take, retries included"))
    add_common(parser, "table")


def _run(arguments: argparse.Namespace) -> int:
    variation = arguments.variation or CUSTOM
    if arguments.seed in (None, -1):  # drawn here: the names of the files contain it
        arguments.seed = draw_seed()
    presets = load_presets(arguments.presets)
    options = edit_options(arguments)
    # What is wrong is told before the input is read.
    plan_takes(arguments.count, arguments.concurrency, options, presets)

    def name(seed: int) -> str:
        return f"{variation}-{seed}"

    def begin(
        client: MelodyFlowClient, clip: Clip, show: Callable[[str, Progress], None]
    ) -> Generator[TakeResult, None, None]:
        return client.takes(
            clip,
            arguments.count,
            concurrency=arguments.concurrency,
            on_progress=lambda seed, event: show(name(seed), event),
            **options,
        )

    asked: dict[str, Details] = {
        name(seed): {"variation": arguments.variation, "seed": seed}
        for seed in take_seeds(arguments.seed, arguments.count)
    }
    return run_batch(arguments, presets, asked, begin, lambda ended: name(ended.seed))
