"""What the commands do, each from its parsed arguments to its exit code."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import textwrap
from pathlib import Path

from .arguments import common_options, edit_options
from .client import MelodyFlowClient
from .events import Result
from .output import facts_of, prepare_output, sentence, suffix
from .presets import CUSTOM, load_presets
from .progress import display


def transform(arguments: argparse.Namespace) -> int:
    """Edits a file."""
    source, name = Path(arguments.input), arguments.variation or CUSTOM
    container = _container(arguments)
    output = prepare_output(arguments.output, f"{source.stem}-{name}{suffix(container)}", source)
    options = edit_options(arguments)
    options["format"] = container
    with (
        MelodyFlowClient(arguments.server, presets=arguments.presets) as client,
        display(sys.stderr, arguments.quiet) as shown,
    ):
        result = client.transform(
            source,
            variation=arguments.variation,
            prompt=arguments.prompt,
            on_progress=lambda event: shown.show(name, event),
            **options,
        )
    return _write(arguments, output, result)


def generate(arguments: argparse.Namespace) -> int:
    """Makes a file from text alone."""
    name = arguments.variation or CUSTOM
    container = _container(arguments)
    output = prepare_output(arguments.output, f"{name}{suffix(container)}")
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
            on_progress=lambda event: shown.show(name, event),
            **options,
        )
    return _write(arguments, output, result)


def _container(arguments: argparse.Namespace) -> str | None:
    """The format asked for, in words or by the output's name."""
    if arguments.format is None and (arguments.output or "").lower().endswith(".flac"):
        return "flac"
    container: str | None = arguments.format
    return container


def _write(arguments: argparse.Namespace, output: Path, result: Result) -> int:
    result.save(output)
    facts = facts_of(output, result)
    if arguments.json:
        print(json.dumps(facts, ensure_ascii=False, indent=2))
    else:
        print(output)
        if not arguments.quiet:
            print(sentence(facts), file=sys.stderr)
    return 0


def variations(arguments: argparse.Namespace) -> int:
    """Lists the variations."""
    presets = load_presets(arguments.presets)
    if arguments.json:
        listed = {name: dataclasses.asdict(preset) for name, preset in presets.items()}
        print(json.dumps(listed, ensure_ascii=False, indent=2))
        return 0
    width = max(len(name) for name in presets)
    for category, members in presets.by_category().items():
        print(category.replace("_", " "))
        for preset in members:
            indent = " " * (width + 4)
            print(
                textwrap.fill(
                    preset.prompt,
                    100,
                    initial_indent=f"  {preset.name:<{width}}  ",
                    subsequent_indent=indent,
                )
            )
    return 0


def status(arguments: argparse.Namespace) -> int:
    """Says how a server is."""
    with MelodyFlowClient(
        arguments.server, presets=arguments.presets, metrics_url=arguments.metrics
    ) as client:
        answer = client.status()
    if arguments.json:
        print(json.dumps(dataclasses.asdict(answer), ensure_ascii=False, indent=2))
    else:
        facts = dataclasses.asdict(answer)
        limits = facts.pop("limits") or {}
        for name, value in facts.items():
            if value is not None:
                shown = {True: "yes", False: "no"}[value] if isinstance(value, bool) else value
                print(f"{name.replace('_', ' ') + ':':<13}{shown}")
        for name, value in limits.items():
            print(f"  {name.replace('_', ' ')}: {value}")
    return 0 if answer.model_ready else 3
