"""Shows progress: one bar per edit on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Protocol, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from ..responses import Progress
from .streams import is_terminal

LINE_SECONDS = 1.0  # at least, between two plain lines of an edit


class Display(Protocol):
    """Shows the progress of edits, each under its own name."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def show(self, name: str, event: Progress) -> None:
        """Shows how far the edit `name` is."""

    def end(self, name: str, outcome: str) -> None:
        """Ends the edit `name`: of a batch, this line stays on the terminal."""


def display(stream: TextIO, quiet: bool = False) -> Display:
    """Bars if `stream` is a terminal, else plain lines; nothing if quiet."""
    if quiet:
        return _Silence()
    return _Bars(stream) if stream.isatty() else _Lines(stream)


class _Silence:
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def show(self, name: str, event: Progress) -> None:
        pass

    def end(self, name: str, outcome: str) -> None:
        pass


class _Bars:
    def __init__(self, stream: TextIO) -> None:
        self._tasks: dict[str, TaskID] = {}
        self._rich = RichProgress(
            TextColumn("{task.description}", markup=False),
            TextColumn("{task.fields[stage]:<10}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %", markup=False),
            TimeRemainingColumn(compact=True),
            console=Console(file=stream),
            transient=True,
            # Otherwise Rich would print data meant for standard output on its own stream.
            redirect_stdout=is_terminal(sys.stdout),
        )

    def __enter__(self) -> Self:
        self._rich.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._rich.stop()

    def show(self, name: str, event: Progress) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._rich.add_task(name, total=1.0, start=False, stage=event.stage)
        task = self._tasks[name]
        if event.progress > 0:
            self._rich.start_task(task)  # the time in the queue is no basis for an estimate
        self._rich.update(task, completed=event.progress, stage=event.stage)

    def end(self, name: str, outcome: str) -> None:
        task = self._tasks.pop(name, None)
        if task is not None:
            self._rich.remove_task(task)
        self._rich.console.print(f"{name}: {outcome}", markup=False, highlight=False)


class _Lines:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._started: dict[str, float] = {}
        self._due: dict[str, float] = {}
        self._shown: dict[str, str] = {}  # the stage

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def show(self, name: str, event: Progress) -> None:
        now = time.monotonic()
        if event.progress > 0:
            self._started.setdefault(name, now)
        lost = event.stage == "warming" and self._shown.get(name) != "warming"
        if now < self._due.get(name, now) and not lost:
            return
        self._due[name], self._shown[name] = now + LINE_SECONDS, event.stage
        line = f"{name}: {event.stage} {event.progress:.0%}"
        left = self._seconds_left(name, event, now)
        if left is not None:
            line += f", {left:.0f} s left"
        print(line, file=self._stream, flush=True)

    def end(self, name: str, outcome: str) -> None:
        print(f"{name}: {outcome}", file=self._stream, flush=True)

    def _seconds_left(self, name: str, event: Progress, now: float) -> float | None:
        elapsed = now - self._started.get(name, now)
        if event.stage == "warming" or event.progress <= 0 or elapsed < LINE_SECONDS:
            return None
        return elapsed * (1 - event.progress) / event.progress
