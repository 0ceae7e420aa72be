"""The file that holds an edit's newest preview, for a player that follows it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from ..errors import InvalidRequest
from ..responses import Progress
from ..saving import check_writable, write_file
from .arguments import add_options
from .failures import complain
from .output import is_source, is_stream

PREVIEWS = 8  # where --previews doesn't say


def add_preview(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("previews")
    group.add_argument(
        "--preview",
        metavar="FILE",
        help="a FLAC file that is replaced by each preview of the result; default: none",
    )
    add_options(group, "previews", {"previews": f"default: {PREVIEWS} with --preview, else 0"})


def follow(
    arguments: argparse.Namespace, show: Callable[[Progress], None]
) -> Callable[[Progress], None]:
    """What to call with an edit's progress: shows it, and saves previews if they are asked for.

    Sets `arguments.previews`. Raises InvalidRequest for a file that can't be written; one that
    can't be written later is told once and costs the edit nothing.
    """
    if arguments.preview is None:
        return show
    path = Path(arguments.preview)
    if path.suffix.lower() != ".flac":
        raise InvalidRequest(f"preview: {str(path)!r}; previews are FLAC: name it .flac")
    if path.exists() and not path.is_file():
        raise InvalidRequest(f"preview: {str(path)!r} is no file; name one")
    if is_source(path, getattr(arguments, "input", None)):
        raise InvalidRequest(f"preview: {str(path)!r} is the input, which is never overwritten")
    if is_stream(path, sys.stdout) or is_stream(path, sys.stderr):
        raise InvalidRequest(
            f"preview: {str(path)!r} takes standard output or messages; name another"
        )
    try:
        check_writable(path)
    except OSError as error:
        raise InvalidRequest(f"preview: cannot write {str(path)!r}: {error.strerror}") from error
    arguments.previews = PREVIEWS if arguments.previews is None else arguments.previews
    failed = False

    def save(event: Progress) -> None:
        nonlocal failed
        show(event)
        if event.preview is None or failed:
            return
        try:
            write_file(path, event.preview.audio)
        except OSError as error:
            failed = True
            complain(f"preview: cannot write {str(path)!r}: {error.strerror}; the edit goes on")

    return save
