"""What the commands do, each from its parsed arguments to its exit code."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import textwrap
from contextlib import closing
from pathlib import Path

from .client import MelodyFlowClient
from .errors import InvalidRequest, MelodyFlowError
from .events import Result
from .failures import common_exit_code, complain
from .output import prepare_output
from .presets import CUSTOM, Presets, load_presets
from .progress import display
from .protocol import EditOptions, SweepOptions


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
        **_settings(arguments),
        "format": container,
    }
    name = variation or CUSTOM
    output = prepare_output(arguments.output, f"{source.stem}-{name}{_suffix(container)}", source)
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


def sweep(arguments: argparse.Namespace) -> int:
    """Edits a file to many variations, each written as it arrives."""
    presets = load_presets(arguments.presets)
    names = list(dict.fromkeys(arguments.variations or presets))
    came: dict[str, dict[str, object]] = {}
    failed: dict[str, MelodyFlowError] = {}
    try:
        _run_sweep(arguments, presets, names, came, failed)
    finally:  # after Ctrl-C too: what is written stays
        if came and not (arguments.quiet or arguments.json):
            _print_table(names, came, failed)
        _complain_of_all(failed)
    return common_exit_code(list(failed.values()))


def _run_sweep(
    arguments: argparse.Namespace,
    presets: Presets,
    names: list[str],
    came: dict[str, dict[str, object]],
    failed: dict[str, MelodyFlowError],
) -> None:
    source, suffix = Path(arguments.input), _suffix(arguments.format)
    folder = os.path.join(arguments.output or ".", "")
    with (
        MelodyFlowClient(arguments.server, presets=presets) as client,
        display(sys.stderr, arguments.quiet) as shown,
    ):
        results = client.sweep(
            source,
            names,
            concurrency=arguments.concurrency,
            on_progress=shown.show,
            **_settings(arguments),
        )
        outputs = {
            name: prepare_output(folder, f"{source.stem}-{name}{suffix}", source) for name in names
        }
        with closing(results):
            for done in results:
                name, output = done.variation, outputs[done.variation]
                if done.error is not None:
                    failed[name] = done.error
                    shown.end(name, "failed")
                    if arguments.json:
                        print(json.dumps(_failure(name, done.error)), flush=True)
                elif done.result is not None:
                    done.result.save(output)
                    came[name] = _facts(output, done.result)
                    shown.end(name, "done")
                    line = json.dumps(came[name], ensure_ascii=False) if arguments.json else output
                    print(line, flush=True)


def _failure(name: str, error: MelodyFlowError) -> dict[str, object]:
    return {
        "variation": name,
        "error": error.message,
        "status": error.status,
        "request_id": error.request_id,
    }


def _print_table(
    names: list[str], came: dict[str, dict[str, object]], failed: dict[str, MelodyFlowError]
) -> None:
    width = max(len(name) for name in names)
    for name in names:
        if name in came:
            facts = came[name]
            row = f"{facts['seconds']:.3f} s  peak {facts['peak']:.3f}  {facts['output']}"
        else:
            row = "failed" if name in failed else "-"
        print(f"{name:<{width}}  {row}", file=sys.stderr)
    seed = next(iter(came.values()))["seed"]
    print(f"{len(came)} of {len(names)} came, seed {seed}", file=sys.stderr)


def _complain_of_all(failed: dict[str, MelodyFlowError]) -> None:
    """One line for each thing that went wrong, whatever the number of edits it ended."""
    by_text: dict[str, list[str]] = {}
    for name, error in failed.items():
        by_text.setdefault(error.message, []).append(name)
    for names in by_text.values():
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        complain(failed[names[0]], about=f"{', '.join(names[:3])}{more}: ")


def _settings(arguments: argparse.Namespace) -> SweepOptions:
    """The options that an edit and a sweep share."""
    return {
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
        "format": arguments.format,
        "sample_rate": arguments.sample_rate,
        "priority": arguments.priority,
        "timeout": arguments.timeout,
        "session_id": arguments.session_id,
        "metadata": arguments.metadata,
    }


def _suffix(container: str | None) -> str:
    return ".flac" if container == "flac" else ".wav"


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


def gateway(arguments: argparse.Namespace) -> int:
    """Serves the gateway."""
    try:
        from .gateway.command import run
    except ImportError as error:
        raise InvalidRequest(
            f"the gateway needs {error.name}, which is not installed: "
            'pip install "melodyflow-client[gateway]"'
        ) from error
    return run(arguments)
