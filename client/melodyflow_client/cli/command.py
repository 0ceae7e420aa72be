"""What a command of `melodyflow` is, and how commands of other packages are found."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Protocol

GROUP = "melodyflow.commands"


class AddCommand(Protocol):
    """Adds a command to `melodyflow` and returns the parser of its arguments.

    run: takes the parsed arguments and returns the exit code. text: one line for the list of
        commands. epilog: examples and notes at the end of its help.
    """

    def __call__(
        self, name: str, run: Callable[[argparse.Namespace], int], text: str, epilog: str
    ) -> argparse.ArgumentParser: ...


# What an entry point of the group refers to: a function that adds the command it is named after.
Plugin = Callable[[AddCommand], None]


def installed_plugins() -> dict[str, Plugin]:
    """The commands of installed packages, by name."""
    return {point.name: point.load() for point in entry_points(group=GROUP)}
