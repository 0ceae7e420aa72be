"""What the commands do, each from its parsed arguments to its exit code."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import textwrap
from pathlib import Path

from .client import MelodyFlowClient
from .events import Result
from .output import prepare_output
from .presets import CUSTOM, load_presets
from .progress import display
from .protocol import EditOptions


def transform(arguments: argparse.Namespace) -> int:
    """Edits a file."""
    source = Path(arguments.input)
    variation = arguments.variation
    container = arguments.format
    if container is None and arguments.output and arguments.output.lower().endswith(".flac"):
        container = "flac"
    options: EditOptions = {
        "variation": variation,
        "prompt": arguments.prompt,
        "source_prompt": arguments.source_prompt,
        "flowstep": arguments.flowstep,
        "strength": arguments.strength,
        "steps": arguments.steps,
        "solver": arguments.solver,
        "guidance": arguments.guidance,
        "regularize_iters": arguments.regularize_iters,
        "keep_last_k_iters": arguments.keep_last_k_iters,
        "lambda_kl": arguments.lambda_kl,
        "seed": arguments.seed,
        "new_take": arguments.new_take,
        "format": container,
        "sample_rate": arguments.sample_rate,
        "priority": arguments.priority,
        "timeout": arguments.timeout,
        "session_id": arguments.session_id,
        "metadata": arguments.metadata,
    }
    name = variation or CUSTOM
    suffix = ".flac" if container == "flac" else ".wav"
    output = prepare_output(arguments.output, f"{source.stem}-{name}{suffix}", source)
    with (
        MelodyFlowClient(arguments.server, presets=arguments.presets) as client,
        display(sys.stderr, arguments.quiet) as shown,
    ):
        result = client.transform(
            source, on_progress=lambda event: shown.show(name, event), **options
        )
    result.save(output)
    facts = _facts(output, result)
    if arguments.json:
        print(json.dumps(facts, ensure_ascii=False, indent=2))
    else:
        print(output)
        if not arguments.quiet:
            print(_sentence(facts), file=sys.stderr)
    return 0


def _facts(output: Path, result: Result) -> dict[str, object]:
    channels, samples = result.waveform.shape
    return {
        "output": str(output),
        "variation": result.variation,
        "seed": result.seed,
        "seconds": round(result.seconds, 6),
        "sample_rate": result.sample_rate,
        "channels": channels,
        "samples": samples,
        "peak": round(result.peak, 6),
        "gain_db": result.gain_db,
        "request_id": result.request_id,
        "info": dict(result.info),
    }


def _sentence(facts: dict[str, object]) -> str:
    turned_down = f", turned down by {-float(str(facts['gain_db'])):.1f} dB"
    return (
        f"{facts['seconds']:.3f} s, {facts['sample_rate']} Hz, {facts['channels']} channels, "
        f"peak {facts['peak']:.3f}{turned_down if facts['gain_db'] else ''}, seed {facts['seed']}"
    )


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
        for name, value in dataclasses.asdict(answer).items():
            if value is not None:
                shown = {True: "yes", False: "no"}[value] if isinstance(value, bool) else value
                print(f"{name.replace('_', ' ') + ':':<13}{shown}")
    return 0 if answer.model_ready else 3
