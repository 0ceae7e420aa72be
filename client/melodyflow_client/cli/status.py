"""`melodyflow status`: asks a server whether it is ready."""

from __future__ import annotations

import argparse
import dataclasses
import sys

from ..client import MelodyFlowClient
from .arguments import add_metrics, add_server
from .command import AddCommand
from .streams import json_text, say


def add(add_command: AddCommand) -> None:
    """Adds the command."""
    parser = add_command(
        "status", _run, "ask a server whether it is ready and how long its queue is", ""
    )
    add_server(parser)
    add_metrics(parser)


def _run(arguments: argparse.Namespace) -> int:
    with MelodyFlowClient(arguments.server, metrics_url=arguments.metrics) as client:
        status = client.status()
    details = dataclasses.asdict(status)
    if arguments.json:
        say(json_text(details, sys.stdout))
    else:
        limits = details.pop("limits") or {}
        for name, value in details.items():
            if value is not None:
                shown = {True: "yes", False: "no"}[value] if isinstance(value, bool) else value
                say(f"{name.replace('_', ' ') + ':':<13}{shown}")
        for name, value in limits.items():
            say(f"  {name.replace('_', ' ')}: {value}")
    return 0 if status.model_ready else 3
