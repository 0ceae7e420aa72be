"""The arguments of the commands, group by group, and the options of an edit that they give."""

from __future__ import annotations

import argparse

from .many import CONCURRENCY
from .protocol import CommonOptions, SweepOptions


def add_input(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", metavar="IN", help="WAV or FLAC; MP3, M4A, OGG, video with PyAV")


def add_target(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("what it becomes, one of them at least")
    what.add_argument("--variation", metavar="NAME", help="see `melodyflow variations`")
    what.add_argument("--prompt", metavar="TEXT", help="in words; overrides the variation's own")


def add_targets(parser: argparse.ArgumentParser) -> None:
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


def add_distance(parser: argparse.ArgumentParser) -> None:
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


def add_part(parser: argparse.ArgumentParser) -> None:
    part = parser.add_argument_group("how much of it; default: all")
    part.add_argument("--start", type=float, metavar="SECONDS", help="edit from here on only")
    part.add_argument("--end", type=float, metavar="SECONDS", help="edit up to here only")
    part.add_argument(
        "--loop",
        action="store_true",
        help="it is a loop: all of it, and the result repeats without a seam",
    )


def add_solve(parser: argparse.ArgumentParser, defaults: str, seed: str) -> argparse._ArgumentGroup:
    solve = parser.add_argument_group(f"how it is solved; default: {defaults}")
    solve.add_argument("--seed", type=int, metavar="N", help=f"0 to 2147483647; {seed}")
    solve.add_argument("--steps", type=int, metavar="N", help="1-128; euler 25, midpoint 64")
    solve.add_argument("--solver", metavar="NAME", help="euler or midpoint")
    solve.add_argument("--guidance", type=float, metavar="G", help="0-10, to follow the prompt")
    return solve


def add_new_take(solve: argparse._ArgumentGroup) -> None:
    solve.add_argument(
        "--new-take", action="store_true", help="a random seed, as when --seed is left out"
    )


def add_inversion(solve: argparse._ArgumentGroup) -> None:
    solve.add_argument("--source-prompt", metavar="TEXT", help="what the input is")
    solve.add_argument("--regularize-iters", type=int, metavar="R", help="euler only")
    solve.add_argument("--keep-last-k-iters", type=int, metavar="K", help="at most R")
    solve.add_argument("--lambda-kl", type=float, metavar="L", help="0-1")


def add_result(
    parser: argparse.ArgumentParser,
    metavar: str,
    where: str,
    default_format: str,
    sample_rate: str = "the input's",
    loudness: str = "source (the input's, the default), none (as the model makes it) or LUFS, -14",
) -> None:
    result = parser.add_argument_group("the result")
    result.add_argument("-o", "--output", metavar=metavar, help=where)
    result.add_argument(
        "--format",
        metavar="F",
        help=f"wav (16 bit), wav24, wav32f or flac; default: {default_format}",
    )
    result.add_argument("--sample-rate", type=int, metavar="HZ", help=f"default: {sample_rate}")
    result.add_argument("--loudness", metavar="L", help=loudness)
    result.add_argument(
        "--no-metadata",
        dest="metadata",
        action="store_false",
        help="write nothing about the edit into the file",
    )


def add_request(parser: argparse.ArgumentParser, timeout: str) -> argparse._ArgumentGroup:
    request = parser.add_argument_group("the request")
    request.add_argument(
        "--priority", type=int, metavar="P", help="1 overtakes 2, the default, and 2 overtakes 3"
    )
    request.add_argument("--timeout", type=float, metavar="SECONDS", help=timeout)
    request.add_argument("--session-id", metavar="NAME", help="for the server's log")
    return request


def add_concurrency(request: argparse._ArgumentGroup) -> None:
    request.add_argument(
        "--concurrency",
        type=int,
        default=CONCURRENCY,
        metavar="N",
        help=f"edits at once; default {CONCURRENCY}",
    )


def add_server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--server",
        metavar="HOST:PORT",
        help="gRPC endpoint; default: $MELODYFLOW_SERVER, else 127.0.0.1:8001",
    )


def add_metrics(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--metrics",
        metavar="URL",
        help="Triton's metrics, for the queue; default: two ports above the server's",
    )


def add_presets(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--presets",
        metavar="FILE",
        help="a JSON file of variations of your own, over the shipped ones; "
        "default: $MELODYFLOW_PRESETS",
    )


def common_options(arguments: argparse.Namespace) -> CommonOptions:
    """The options that edits and text-to-music share."""
    return {
        "steps": arguments.steps,
        "solver": arguments.solver,
        "guidance": arguments.guidance,
        "seed": arguments.seed,
        "format": arguments.format,
        "sample_rate": arguments.sample_rate,
        "loudness": arguments.loudness,
        "priority": arguments.priority,
        "timeout": arguments.timeout,
        "session_id": arguments.session_id,
        "metadata": arguments.metadata,
    }


def edit_options(arguments: argparse.Namespace) -> SweepOptions:
    """The options that an edit, takes of it and a sweep share."""
    return {
        **common_options(arguments),
        "source_prompt": arguments.source_prompt,
        "flowstep": arguments.flowstep,
        "strength": arguments.strength,
        "regularize_iters": arguments.regularize_iters,
        "keep_last_k_iters": arguments.keep_last_k_iters,
        "lambda_kl": arguments.lambda_kl,
        "new_take": arguments.new_take,
        "start": arguments.start,
        "end": arguments.end,
        "loop": arguments.loop,
    }
