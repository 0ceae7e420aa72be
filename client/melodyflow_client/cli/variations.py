"""`melodyflow variations`: lists the named variations."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import textwrap

from ..presets import load_presets
from .arguments import add_presets
from .command import AddCommand
from .streams import json_text, say


def add(add_command: AddCommand) -> None:
    """Adds the command."""
    add_presets(add_command("variations", _run, "list the named variations", ""))


def _run(arguments: argparse.Namespace) -> int:
    presets = load_presets(arguments.presets)
    if arguments.json:
        listed = {name: dataclasses.asdict(preset) for name, preset in presets.items()}
        say(json_text(listed, sys.stdout))
        return 0
    width = max(len(name) for name in presets)
    for category, members in presets.by_category().items():
        say(category.replace("_", " "))
        for preset in members:
            say(
                textwrap.fill(
                    preset.prompt,
                    100,
                    initial_indent=f"  {preset.name:<{width}}  ",
                    subsequent_indent=" " * (width + 4),
                )
            )
    return 0
