"""The command `melodyflow`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from . import __version__, commands
from .errors import MelodyFlowError
from .failures import complain, exit_code
from .sweep import CONCURRENCY

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
  melodyflow variations
  melodyflow status --server studio:8001

"""

_TRANSFORM_EXAMPLES = """\
examples:
  melodyflow transform riff.wav --variation piano_classical
  melodyflow transform riff.wav --variation piano_classical --flowstep 0.05    (more change)
  melodyflow transform riff.wav --variation piano_classical --new-take -o take2.wav
  melodyflow transform song.mp3 --prompt "eight-bit chiptune, playful" --json

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

_GATEWAY_NOTES = """\
example:
  melodyflow gateway --server studio:8001

Needs: pip install "melodyflow-client[gateway]". Everything else that can be set is an environment
variable MELODYFLOW_GATEWAY_<NAME>, tokens among them: see docs/gateway.md.

"""


def main(argv: list[str] | None = None) -> int:
    """Runs the command and gives its exit code."""
    arguments = _parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = arguments.run
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


def _parser() -> argparse.ArgumentParser:
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
        made.set_defaults(run=run, presets=None)
        return made

    transform = command("transform", commands.transform, "edit an audio file", _TRANSFORM_EXAMPLES)
    _add_input(transform)
    _add_target(transform)
    _add_settings(transform)
    _add_result(
        transform,
        "OUT",
        "file or folder; default: IN-NAME.wav in the current folder, counted up where taken",
        "by OUT, wav",
    )
    _add_request(transform, "for all, with retries")
    _add_server(transform)
    _add_presets(transform)
    transform.add_argument("--quiet", "-q", action="store_true", help="no progress, no facts")

    sweep = command(
        "sweep", commands.sweep, "edit an audio file to many variations at once", _SWEEP_EXAMPLES
    )
    _add_input(sweep)
    _add_targets(sweep)
    _add_settings(sweep)
    _add_result(
        sweep,
        "DIR",
        "folder for IN-NAME.wav of each variation, counted up where taken; default: the current",
        "wav",
    )
    request = _add_request(sweep, "for each edit, with retries")
    request.add_argument(
        "--concurrency",
        type=int,
        default=CONCURRENCY,
        metavar="N",
        help=f"edits at once; default {CONCURRENCY}",
    )
    _add_server(sweep)
    _add_presets(sweep)
    sweep.add_argument("--quiet", "-q", action="store_true", help="no progress, no table")

    variations = command("variations", commands.variations, "list the named variations", "")
    _add_presets(variations)

    status = command(
        "status", commands.status, "ask a server whether it is ready and how long its queue is", ""
    )
    _add_server(status)
    _add_metrics(status)
    for parsed in (transform, sweep, variations, status):
        parsed.add_argument("--json", action="store_true", help="print JSON")

    gateway = command(
        "gateway",
        commands.gateway,
        "serve the old service's API and a page for browsers, in front of a server",
        _GATEWAY_NOTES,
    )
    gateway.add_argument("--host", metavar="ADDRESS", help="to listen on; default: 127.0.0.1")
    gateway.add_argument("--port", type=int, metavar="N", help="default: 8002; 0: a free one")
    _add_server(gateway)
    _add_metrics(gateway)
    _add_presets(gateway)
    return parser


def _add_input(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", metavar="IN", help="WAV or FLAC; MP3, M4A, OGG, video with PyAV")


def _add_target(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("what it becomes, one of them at least")
    what.add_argument("--variation", metavar="NAME", help="see `melodyflow variations`")
    what.add_argument("--prompt", metavar="TEXT", help="in words; overrides the variation's own")


def _add_targets(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("what it becomes, one of the two")
    either = what.add_mutually_exclusive_group(required=True)
    either.add_argument("--all", action="store_true", help="all of `melodyflow variations`")
    either.add_argument(
        "--variation",
        action="append",
        dest="variations",
        metavar="NAME",
        help="one of them; again for more",
    )


def _add_settings(parser: argparse.ArgumentParser) -> None:
    how_far = parser.add_argument_group("how far it goes from the source, one of them at most")
    how_far.add_argument(
        "--strength", type=float, metavar="S", help="0 < S <= 1; 1 = most change; 1 - flowstep"
    )
    how_far.add_argument(
        "--flowstep",
        type=float,
        metavar="F",
        help="0 <= F < 1; 0 = most change, towards 1 = the source is kept; default 0.12",
    )

    solve = parser.add_argument_group("how it is solved; default: as the variation says")
    solve.add_argument("--seed", type=int, metavar="N", help="0 to 2147483647; the same take again")
    solve.add_argument(
        "--new-take", action="store_true", help="a random seed, as when --seed is left out"
    )
    solve.add_argument("--source-prompt", metavar="TEXT", help="what the input is")
    solve.add_argument("--steps", type=int, metavar="N", help="1-128; euler 25, midpoint 64")
    solve.add_argument("--solver", metavar="NAME", help="euler or midpoint")
    solve.add_argument("--guidance", type=float, metavar="G", help="0-10, to follow the prompt")
    solve.add_argument("--regularize-iters", type=int, metavar="R", help="euler only")
    solve.add_argument("--keep-last-k-iters", type=int, metavar="K", help="at most R")
    solve.add_argument("--lambda-kl", type=float, metavar="L", help="0-1")


def _add_result(
    parser: argparse.ArgumentParser, metavar: str, where: str, default_format: str
) -> None:
    result = parser.add_argument_group("the result")
    result.add_argument("-o", "--output", metavar=metavar, help=where)
    result.add_argument(
        "--format",
        metavar="F",
        help=f"wav (16 bit), wav24, wav32f or flac; default: {default_format}",
    )
    result.add_argument("--sample-rate", type=int, metavar="HZ", help="default: the input's")
    result.add_argument(
        "--no-metadata",
        dest="metadata",
        action="store_false",
        help="write nothing about the edit into the file",
    )


def _add_request(parser: argparse.ArgumentParser, timeout: str) -> argparse._ArgumentGroup:
    request = parser.add_argument_group("the request")
    request.add_argument("--priority", type=int, metavar="P", help="1 overtakes 2; default 2")
    request.add_argument("--timeout", type=float, metavar="SECONDS", help=timeout)
    request.add_argument("--session-id", metavar="NAME", help="for the server's log")
    return request


def _add_server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--server",
        metavar="HOST:PORT",
        help="gRPC endpoint; default: $MELODYFLOW_SERVER, else 127.0.0.1:8001",
    )


def _add_metrics(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--metrics",
        metavar="URL",
        help="Triton's metrics, for the queue; default: two ports above the server's",
    )


def _add_presets(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--presets",
        metavar="FILE",
        help="a JSON file of variations of your own, over the shipped ones; "
        "default: $MELODYFLOW_PRESETS",
    )
