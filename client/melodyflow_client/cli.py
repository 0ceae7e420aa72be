"""The command `melodyflow`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from . import __version__, commands
from .errors import (
    DeadlineExceeded,
    InvalidRequest,
    MelodyFlowError,
    PresetError,
    Unavailable,
)

EXIT_CODES = """\
exit codes:
  0    done
  1    the result could not be written
  2    wrong usage or an invalid request: options, variation, audio
  3    the server is not there, not ready or full
  4    the server failed
  5    the timeout passed
  130  Ctrl-C; the edit is cancelled on the server"""

_EXAMPLES = """\
examples:
  melodyflow transform riff.wav --variation strings_quartet
  melodyflow transform riff.wav --prompt "solo cello, sad and slow" --strength 0.8 -o cello.flac
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


def main(argv: list[str] | None = None) -> int:
    """Runs the command and gives its exit code."""
    arguments = _parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        return run(arguments)
    except KeyboardInterrupt:
        return _fail("cancelled", 130)
    except (InvalidRequest, PresetError) as error:
        return _fail(error, 2)
    except Unavailable as error:
        return _fail(error, 3)
    except DeadlineExceeded as error:
        return _fail(error, 5)
    except MelodyFlowError as error:
        return _fail(error, 4)
    except BrokenPipeError:  # the reader of standard output left: nothing more to say
        sys.stdout = None
        return 0
    except OSError as error:
        return _fail(error, 1)


def _fail(reason: object, code: int) -> int:
    print(f"melodyflow: {reason}", file=sys.stderr)
    request_id = getattr(reason, "request_id", None)
    if request_id and code in (4, 5):
        print(f"melodyflow: request id {request_id}", file=sys.stderr)
    return code


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
    _add_edit(transform)
    _add_server(transform)
    _add_presets(transform)
    transform.add_argument("--quiet", "-q", action="store_true", help="no progress, no facts")

    variations = command("variations", commands.variations, "list the named variations", "")
    _add_presets(variations)

    status = command(
        "status", commands.status, "ask a server whether it is ready and how long its queue is", ""
    )
    _add_server(status)
    status.add_argument(
        "--metrics",
        metavar="URL",
        help="Triton's metrics, for the queue; default: one port above the server's",
    )
    for parsed in (transform, variations, status):
        parsed.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _add_edit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", metavar="IN", help="WAV or FLAC; MP3, M4A, OGG, video with PyAV")
    what = parser.add_argument_group("what it becomes, one of them at least")
    what.add_argument("--variation", metavar="NAME", help="see `melodyflow variations`")
    what.add_argument("--prompt", metavar="TEXT", help="in words; overrides the variation's own")
    what.add_argument("--source-prompt", metavar="TEXT", help="what the input is")

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
    solve.add_argument("--steps", type=int, metavar="N", help="1-128; euler 25, midpoint 64")
    solve.add_argument("--solver", metavar="NAME", help="euler or midpoint")
    solve.add_argument("--guidance", type=float, metavar="G", help="0-10, to follow the prompt")
    solve.add_argument("--regularize-iters", type=int, metavar="R", help="euler only")
    solve.add_argument("--keep-last-k-iters", type=int, metavar="K", help="at most R")
    solve.add_argument("--lambda-kl", type=float, metavar="L", help="0-1")

    result = parser.add_argument_group("the result")
    result.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        help="file or folder; default: IN-NAME.wav in the current folder, counted up where taken",
    )
    result.add_argument(
        "--format", metavar="F", help="wav (16 bit), wav24, wav32f or flac; default: by OUT, wav"
    )
    result.add_argument("--sample-rate", type=int, metavar="HZ", help="default: the input's")
    result.add_argument(
        "--no-metadata",
        dest="metadata",
        action="store_false",
        help="write nothing about the edit into the file",
    )

    request = parser.add_argument_group("the request")
    request.add_argument("--priority", type=int, metavar="P", help="1 overtakes 2; default 2")
    request.add_argument("--timeout", type=float, metavar="SECONDS", help="for all, with retries")
    request.add_argument("--session-id", metavar="NAME", help="for the server's log")


def _add_server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--server",
        metavar="HOST:PORT",
        help="gRPC endpoint; default: $MELODYFLOW_SERVER, else 127.0.0.1:8001",
    )


def _add_presets(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--presets",
        metavar="FILE",
        help="a JSON file of variations of your own, over the shipped ones; "
        "default: $MELODYFLOW_PRESETS",
    )
