"""The command `melodyflow`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping

from . import __version__, commands, compare_command, many_commands
from .arguments import (
    add_concurrency,
    add_edit,
    add_input,
    add_metrics,
    add_options,
    add_presets,
    add_request,
    add_result,
    add_server,
    add_solve,
    add_target,
    add_targets,
)
from .errors import InvalidRequest, MelodyFlowError
from .failures import complain, exit_code
from .plugins import Plugin, installed
from .takes import TAKES

EXIT_CODES = """\
exit codes:
  0    done
  1    the result could not be written
  2    wrong usage or an invalid request: options, variation, audio
  3    the server is not there, not ready or full
  4    the server failed
  5    the timeout passed
  130  Ctrl-C; what runs is cancelled on the server"""

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

_TRANSFORM_EXAMPLES = """\
examples:
  melodyflow transform riff.wav --variation piano_classical
  melodyflow transform riff.wav --variation piano_classical --flowstep 0.05    (more change)
  melodyflow transform riff.wav --variation piano_classical --new-take -o take2.wav
  melodyflow transform song.mp3 --prompt "eight-bit chiptune, playful" --json
  melodyflow transform song.wav --variation celtic --start 2.0 --end 6.5    (the rest stays)
  melodyflow transform loop.wav --variation trap_808 --loop --loudness -14

flowstep is where the edit starts from: 0 = most change, towards 1 = the source is kept.
strength is 1 - flowstep.

The path of the result is printed on standard output, or with --json its facts; progress and
messages go to standard error.

"""

_SWEEP_EXAMPLES = """\
examples:
  melodyflow sweep riff.wav --all -o out/
  melodyflow sweep riff.wav --variation celtic --variation chiptune --variation music_box
  melodyflow sweep riff.wav --all --strength 0.95 --format flac -o out/
  melodyflow sweep riff.wav --all --new-take --json -o out/ > takes.jsonl

All edits have one seed, so that they compare well and the server inverts the clip once for all,
and low priority: single edits of others overtake them. Up to --concurrency run at once.

As each result arrives it is written to DIR and its path printed on standard output, or with --json
its facts, one JSON object a line (of an edit that failed: variation, error, status, request_id).
Progress, and at the end a table and what failed, go to standard error. An edit that fails harms no
other; the exit code is then that of the failures, 4 where they differ.

"""

_TAKES_EXAMPLES = """\
examples:
  melodyflow takes riff.wav --variation celtic -o out/
  melodyflow takes riff.wav --variation celtic --count 8 --seed 100 --strength 0.95 -o out/
  melodyflow transform riff.wav --variation celtic --seed 103 --format wav24    (the one you like)

Each take has a seed of its own, which stands in its name: --seed, or a random one, and those that
follow it. The server encodes the clip and the prompt once for all, and single edits of others
overtake them. Output and failures: as with `melodyflow sweep`.

"""

_GENERATE_EXAMPLES = """\
examples:
  melodyflow generate --prompt "lo-fi piano and vinyl crackle" --duration 10 -o lofi.wav
  melodyflow generate --variation celtic --duration 20 --seed 7 --loudness -14

Of a variation only the prompt is used: its other settings are made for edits.

"""

_COMPARE_EXAMPLES = """\
examples:
  melodyflow compare riff.wav riff-strings_quartet.wav
  melodyflow compare riff.wav riff-strings_quartet.wav --plot strings.png

Needs no server, but: pip install "melodyflow-client[compare]" (librosa; 0.5 GB).

"""


# Commands of packages that may not be installed: what each is for, and what to install.
_ELSEWHERE = {
    "gateway": (
        "serve the old service's API and a page for browsers, in front of a server",
        "melodyflow-client[gateway]",
    ),
}


def main(argv: list[str] | None = None, plugins: Mapping[str, Plugin] | None = None) -> int:
    """Runs the command and gives its exit code. plugins: other packages' commands; None: those of
    the packages that are installed."""
    parser = _parser(plugins)
    arguments, unknown = parser.parse_known_args(argv)
    run: Callable[[argparse.Namespace], int] = arguments.run
    # A command that is not installed says so whatever its arguments, which are unknown here.
    if unknown and run is not _not_installed:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        return run(arguments)
    except KeyboardInterrupt:
        complain("cancelled")
        return 130
    except MelodyFlowError as error:
        complain(error)
        return exit_code(error)
    except BrokenPipeError:  # the reader of standard output left: nothing more to say
        sys.stdout = None
        return 0
    except OSError as error:
        complain(error)
        return 1


def _parser(plugins: Mapping[str, Plugin] | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="melodyflow",
        description="Text-guided music editing: the same bars, another arrangement.",
        epilog=_EXAMPLES + EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"melodyflow {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(
        name: str, run: Callable[[argparse.Namespace], int], text: str, epilog: str
    ) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = subparsers.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=epilog + EXIT_CODES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        made.set_defaults(run=run, presets=None, new_take=False)
        made.add_argument("--json", action="store_true", help="print JSON")
        return made

    def common(parser: argparse.ArgumentParser, table: str) -> None:
        add_server(parser)
        add_presets(parser)
        parser.add_argument("--quiet", "-q", action="store_true", help=f"no progress, no {table}")

    transform = command("transform", commands.transform, "edit an audio file", _TRANSFORM_EXAMPLES)
    add_input(transform)
    add_target(transform)
    add_edit(transform)
    add_result(
        transform,
        "OUT",
        "file or folder; default: IN-NAME.wav in the current folder, counted up where taken",
        {"format": "default: by OUT, wav"},
    )
    add_request(transform, "for all, with retries")
    common(transform, "facts")

    sweep = command(
        "sweep",
        many_commands.sweep,
        "edit an audio file to many variations at once",
        _SWEEP_EXAMPLES,
    )
    add_input(sweep)
    add_targets(sweep)
    add_edit(sweep)
    add_result(
        sweep,
        "DIR",
        "folder for IN-NAME.wav of each variation, counted up where taken; default: the current",
    )
    add_concurrency(add_request(sweep, "for each edit, with retries"))
    common(sweep, "table")

    takes = command(
        "takes", many_commands.takes, "edit an audio file many times over", _TAKES_EXAMPLES
    )
    add_input(takes)
    takes.add_argument(
        "--count", type=int, default=TAKES, metavar="N", help=f"takes; default {TAKES}"
    )
    add_target(takes)
    add_edit(takes, "of the first take; default: random", new_take=False)
    add_result(
        takes,
        "DIR",
        "folder for IN-NAME-SEED.wav of each take, counted up where taken; default: the current",
    )
    add_concurrency(add_request(takes, "for each take, with retries"))
    common(takes, "table")

    generate = command(
        "generate", commands.generate, "make music from text alone", _GENERATE_EXAMPLES
    )
    add_target(generate)
    add_options(generate, "music", {"duration": "needed"}, required=True)
    add_solve(generate.add_argument_group("how it is solved; default: midpoint"), "default: random")
    add_result(
        generate,
        "OUT",
        "file or folder; default: NAME.wav in the current folder, counted up where taken",
        {"format": "default: by OUT, wav"},
    )
    add_request(generate, "for all, with retries")
    common(generate, "facts")

    compare = command(
        "compare", compare_command.compare, "say how alike two audio files are", _COMPARE_EXAMPLES
    )
    compare.add_argument("a", metavar="A", help="the one to hold B against, the source")
    compare.add_argument("b", metavar="B", help="the result")
    compare.add_argument(
        "--plot", metavar="FILE", help="waveforms and chromagrams of both, as PNG, SVG or PDF"
    )

    variations = command("variations", commands.variations, "list the named variations", "")
    add_presets(variations)

    status = command(
        "status", commands.status, "ask a server whether it is ready and how long its queue is", ""
    )
    add_server(status)
    add_metrics(status)

    plugins = installed() if plugins is None else plugins
    for name, (text, extra) in _ELSEWHERE.items():
        if name not in plugins:
            needs = f'Needs: pip install "{extra}".\n\n'
            command(name, _not_installed, text, needs).set_defaults(command=name, extra=extra)
    for add in plugins.values():
        add(command)
    return parser


def _not_installed(arguments: argparse.Namespace) -> int:
    raise InvalidRequest(f'{arguments.command} is not installed: pip install "{arguments.extra}"')
