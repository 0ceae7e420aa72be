"""The command `melodyflow`. It uses the SDK; the SDK never imports it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from typing import TextIO, cast

from ..errors import MelodyFlowError
from .command import Plugin, installed_plugins
from .failures import complain, exit_code
from .parser import build_parser, not_installed
from .streams import output_failure, printable, steady_streams

__all__ = ["main"]


def main(argv: list[str] | None = None, plugins: Mapping[str, Plugin] | None = None) -> int:
    """Runs the command and returns its exit code.

    plugins: commands of other packages, by name; None: those of the installed packages.
    """
    with steady_streams():
        parser = build_parser(installed_plugins() if plugins is None else plugins)
        arguments, unknown = parser.parse_known_args(argv)
        # A missing package is the error to report, not the arguments that only it understands.
        if unknown and arguments.run is not not_installed:
            parser.error(f"unrecognized arguments: {printable(' '.join(unknown))}")
        code = _run(arguments)
        failure = output_failure()
        if failure is not None:
            complain(f"cannot write standard output: {failure.strerror}")
        return code or (0 if failure is None else 1)


def _run(arguments: argparse.Namespace) -> int:
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        return run(arguments)
    except KeyboardInterrupt:
        complain("cancelled")
        return 130
    except MelodyFlowError as error:
        complain(error)
        return exit_code(error)
    except BrokenPipeError:  # whoever read standard output is gone: there is nobody to tell
        sys.stdout = cast(TextIO, None)
        return 0
    except OSError as error:
        complain(error)
        return 1
