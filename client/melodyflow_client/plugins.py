"""Commands of `melodyflow` that come with packages of their own."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Protocol

GROUP = "melodyflow.commands"


class AddCommand(Protocol):
    """Adds a command to `melodyflow`; the parser of its arguments."""

    def __call__(
        self, name: str, run: Callable[[argparse.Namespace], int], text: str, epilog: str
    ) -> argparse.ArgumentParser: ...


# What an entry point of the group leads to: it adds the command it is named after.
Plugin = Callable[[AddCommand], None]


def installed() -> dict[str, Plugin]:
    """The commands of installed packages, by name."""
    return {point.name: point.load() for point in entry_points(group=GROUP)}
