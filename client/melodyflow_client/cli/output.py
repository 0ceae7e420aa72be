"""Where the command writes a result, and what becomes of one that can't be written there."""

from __future__ import annotations

import argparse
import os
import stat
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TextIO

from ..audio import MAX_BYTES, Clip
from ..errors import InvalidRequest
from ..responses import Result
from ..saving import check_stream, check_writable, numbered, write_all, write_file, write_new_file
from . import streams
from .details import details_of, summary, warn
from .draft import how_to_finish
from .failures import complain
from .input import STANDARD_INPUT

STANDARD_OUTPUT = "-"

# Of a sample, at least; of FLAC, what music takes that is easy to compress.
_BYTES = {"wav": 2.0, "wav24": 3.0, "wav32f": 4.0, "flac": 0.75}


class Saved(NamedTuple):
    """path: where a result is; None: nowhere. as_asked: whether that is where it should be."""

    path: Path | None
    as_asked: bool


@dataclass(frozen=True)
class Output:
    """A place for a result. path: a file or device; None: standard output. is_new: whether it is a
    file that must not replace another; it is then numbered if need be."""

    path: Path | None
    is_new: bool = False

    @property
    def free_path(self) -> Path | None:
        """The path that would be written to now."""
        if self.path is None or not self.is_new:
            return self.path
        return next(name for name in numbered(self.path) if not os.path.lexists(name))

    def check(self, size: int = 0) -> None:
        """Raises InvalidRequest where so many bytes can't be written, as far as can be told."""
        try:
            path = self.free_path
            if path is None:
                check_stream(sys.stdout.fileno(), size)
            else:
                check_writable(path, size)
        except OSError as error:
            raise InvalidRequest(f"output: {_cannot_write(self.path, error)}") from error

    def save(self, result: Result) -> Saved:
        """Writes the result, elsewhere if need be, and tells why. Never raises OSError."""
        try:
            if self.path is None:
                sys.stdout.flush()
                write_all(sys.stdout.fileno(), result.audio)
            elif self.is_new:
                return Saved(write_new_file(self.path, result.audio), as_asked=True)
            else:
                write_file(self.path, result.audio)
        except OSError as error:
            return _save_elsewhere(result, _cannot_write(self.path, error))
        except KeyboardInterrupt:  # a FIFO that nobody reads, or a slow disk
            _save_elsewhere(result, f"{_named(self.path)} isn't written")
            raise
        return Saved(self.path or Path(STANDARD_OUTPUT), as_asked=True)


def prepare_output(asked: str | None, default: str, source: str | None = None) -> Output:
    """The place to write to, never the source's own; its folder is made if need be.

    asked: a file, which is replaced if it exists, a device, `-` for standard output, or a folder;
        None: the current folder. A folder gets a file of the default name, numbered if that exists:
        no earlier take is lost. source: the input, as it is named.

    Raises InvalidRequest for a path that doesn't fit the default name's format, is the source's or
    can't be written.
    """
    if asked == STANDARD_OUTPUT:
        _check_standard_output(source)
        return Output(None)
    if asked == "":
        raise InvalidRequest("output: is empty; name a file, a folder or - for standard output")
    if asked is None:
        path, is_new = Path(default), True
    elif asked.endswith(("/", os.sep)) or os.path.isdir(asked):
        path, is_new = Path(asked) / default, True
    else:
        path, is_new = Path(asked), False
    suffixes = (".flac",) if default.endswith(".flac") else (".wav", ".wave")
    if path.suffix.lower() not in ("", *suffixes):
        raise InvalidRequest(
            f"output: {_named(path)} doesn't fit the format; name it {' or '.join(suffixes)}"
        )
    if not is_new and is_stream(path, sys.stdout):
        _check_standard_output(source)
        return Output(None)
    if not is_new and is_stream(path, sys.stderr):
        raise InvalidRequest(
            f"output: {_named(path)} is standard error, which takes the messages; choose another"
        )
    if not is_new and is_source(path, source):
        raise InvalidRequest(f"output: {_named(path)} is the input, which is never overwritten")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidRequest(
            f"output: cannot make the folder {_named(path.parent)}: {error.strerror}"
        ) from error
    output = Output(path, is_new)
    output.check()
    return output


def least_bytes(container: str | None, samples: float, channels: int) -> int:
    """How many bytes a result has at least; 0 for lengths that servers refuse. samples: per
    channel."""
    size = samples * channels * _BYTES[container or "wav"]
    return int(size) if 0 < size <= MAX_BYTES else 0


def least_bytes_of_edit(clip: Clip, container: str | None, sample_rate: int | None) -> int:
    """The same for an edit of a clip. sample_rate: the result's, in Hz; None: the clip's."""
    samples = clip.samples * (sample_rate or clip.sample_rate) / clip.sample_rate
    return least_bytes(container, samples, clip.channels)


def suffix(container: str | None) -> str:
    """A file's suffix for a format of the contract."""
    return ".flac" if container == "flac" else ".wav"


def container_of(arguments: argparse.Namespace) -> str | None:
    """The format asked for by --format or by the output's suffix."""
    if arguments.format is None and (arguments.output or "").lower().endswith(".flac"):
        return "flac"
    container: str | None = arguments.format
    return container


def write(arguments: argparse.Namespace, output: Output, result: Result) -> int:
    """Writes the result, prints its path or with --json its details, and returns the exit code.

    If the result itself goes to standard output, the details go to standard error.
    """
    saved = output.save(result)
    warn(result.warnings)
    if saved.path is not None:
        details = details_of(saved.path, result)
        if arguments.json and output.path is None:
            print(streams.json_text(details, sys.stderr), file=sys.stderr)
        elif arguments.json:
            streams.say(streams.json_text(details, sys.stdout))
        else:
            if output.path is not None:
                streams.say(saved.path)
            if not arguments.quiet:
                print(summary(details), file=sys.stderr)
                if arguments.draft:
                    print(how_to_finish([result.seed]), file=sys.stderr)
    return 0 if saved.as_asked else 1


def _check_standard_output(source: str | None) -> None:
    if sys.stdout is None:
        raise InvalidRequest("output: standard output is closed; name a file")
    if streams.is_terminal(sys.stdout):
        raise InvalidRequest(
            "output: standard output is a terminal; name a file, or pipe it into a program"
        )
    if is_stream(sys.stdout.fileno(), sys.stderr):
        raise InvalidRequest(
            "output: standard error goes where standard output goes, and would put messages among "
            "the samples; redirect it"
        )
    if is_source(sys.stdout.fileno(), source):
        raise InvalidRequest("output: standard output is the input, which is never overwritten")
    Output(None).check()


def is_stream(path: Path | int, stream: TextIO | None) -> bool:
    """Whether the path, or an open file, is what the stream writes to. Devices other than terminals
    don't count: they take anything."""
    if stream is None:
        return False
    try:
        fd = stream.fileno()
        mine = os.fstat(fd)
        same = os.path.samestat(os.stat(path), mine)
        return same and (not stat.S_ISCHR(mine.st_mode) or os.isatty(fd))
    except (OSError, ValueError):  # no such file
        return False


def is_source(path: Path | int, source: str | None) -> bool:
    """Whether the path, or an open file, is the file that is read."""
    if source is None:
        return False
    try:
        read = sys.stdin.fileno() if source in STANDARD_INPUT else source
        return os.path.isfile(path) and os.path.samefile(path, read)
    except (OSError, ValueError, AttributeError):  # no such file, or no standard input
        return False


def _save_elsewhere(result: Result, reason: str) -> Saved:
    """Saves a result that has been made but can't be written where it should be."""
    name = f"melodyflow-{result.seed}.{result.container}"
    folders: list[Callable[[], str]] = [
        tempfile.gettempdir,
        os.getcwd,
        lambda: os.path.expanduser("~"),
    ]
    for folder in folders:
        with suppress(OSError):
            path = write_new_file(Path(folder(), name), result.audio)
            complain(f"output: {reason}; the result is in {_named(path)} instead")
            return Saved(path, as_asked=False)
    complain(
        f"output: {reason}, nor any other folder; seed {result.seed} makes the same result again"
    )
    return Saved(None, as_asked=False)


def _cannot_write(path: Path | None, error: OSError) -> str:
    return f"cannot write {_named(path)}: {error.strerror or error}"


def _named(path: Path | None) -> str:
    return "standard output" if path is None else repr(str(path))
