"""The parser of `melodyflow`: its commands, and what the help of all of them says."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping

from ..contract.version import __version__
from ..errors import InvalidRequest
from . import compare, generate, status, sweep, takes, transform, variations
from .command import Plugin

_COMMANDS = (transform, sweep, takes, generate, compare, variations, status)

# Commands of packages that may be missing: what each does, and what to install.
_EXTRAS = {
    "gateway": (
        "serve the old service's API and a page for browsers, in front of a server",
        "melodyflow-client[gateway]",
    ),
}

_EXIT_CODES = """\
exit codes:
  0    success
  1    the result could not be written where it should be
  2    wrong usage or an invalid request: options, variation, audio or output
  3    the server is unreachable, not ready or full
  4    the server failed
  5    the timeout passed
  6    an API key is missing or wrong, or the API is closed
  130  interrupted with Ctrl-C; running edits are cancelled on the server"""

_EXAMPLES = """\
examples:
  melodyflow transform riff.wav --variation strings_quartet
  melodyflow transform riff.wav --prompt "solo cello, sad and slow" --strength 0.8 -o cello.flac
  melodyflow sweep riff.wav --all -o out/
  melodyflow takes riff.wav --variation celtic --count 4 -o out/
  melodyflow generate --prompt "lo-fi piano and vinyl crackle" --duration 10 -o lofi.wav
  melodyflow compare riff.wav strings.wav
  melodyflow variations
  melodyflow status --server studio:8001

"""


def build_parser(plugins: Mapping[str, Plugin]) -> argparse.ArgumentParser:
    """The parser with the SDK's commands and those of `plugins`; each sets `run`."""
    parser = argparse.ArgumentParser(
        prog="melodyflow",
        description="Text-guided music editing: the same bars in another arrangement.",
        epilog=_EXAMPLES + _EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"melodyflow {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add_command(
        name: str, run: Callable[[argparse.Namespace], int], text: str, epilog: str
    ) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = subparsers.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=epilog + _EXIT_CODES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        added.set_defaults(run=run, presets=None, new_take=False)
        added.add_argument("--json", action="store_true", help="print JSON")
        return added

    for module in _COMMANDS:
        module.add(add_command)
    for name, (text, extra) in _EXTRAS.items():
        if name not in plugins:
            needs = f'To install it: pip install "{extra}"\n\n'
            add_command(name, not_installed, text, needs).set_defaults(command=name, extra=extra)
    for add in plugins.values():
        add(add_command)
    return parser


def not_installed(arguments: argparse.Namespace) -> int:
    """Stands in for a command whose package is missing."""
    raise InvalidRequest(f'{arguments.command} is not installed: pip install "{arguments.extra}"')
