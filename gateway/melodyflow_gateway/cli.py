"""The arguments of `melodyflow gateway`, which the SDK's command finds by an entry point."""

from __future__ import annotations

import argparse

from melodyflow_client.cli.arguments import add_metrics, add_presets, add_server
from melodyflow_client.cli.command import AddCommand

_NOTES = """\
example:
  melodyflow gateway --server studio:8001

All other settings, such as tokens, are environment variables MELODYFLOW_GATEWAY_<NAME>: see
docs/gateway.md.

"""


def add(add_command: AddCommand) -> None:
    """Adds the command."""
    gateway = add_command(
        "gateway",
        _run,
        "serve the old service's API and a page for browsers, in front of a server",
        _NOTES,
    )
    gateway.add_argument(
        "--host", metavar="ADDRESS", help="address to listen on; default: 127.0.0.1"
    )
    gateway.add_argument(
        "--port", type=int, metavar="N", help="port to listen on; default: 8002; 0: any free port"
    )
    add_server(gateway)
    add_metrics(gateway)
    add_presets(gateway)


def _run(arguments: argparse.Namespace) -> int:
    # Imported only when it runs: every `melodyflow` command loads this module.
    from .command import run

    return run(arguments)
