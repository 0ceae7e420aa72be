"""Previews of edits: clients are told of them, and fetch those that they want to hear."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from melodyflow_client.responses import Preview

from ..budget import Budget, Share
from ..problems import Problem

_KEPT_SECONDS = 60.0  # after the edit, for who was just told of one


@dataclass(frozen=True)
class Previewed:
    """There is a preview. path: where to fetch it. step, total: as in Preview."""

    path: str
    step: int
    total: int

    @property
    def data(self) -> dict[str, object]:
        """Of the event that tells of it, without the session."""
        return {"url": self.path, "step": [self.step, self.total]}


class Newest:
    """The newest preview of one edit, under a name that can't be guessed."""

    def __init__(self, share: Share) -> None:
        self.name = secrets.token_urlsafe(16)
        self.step = 0
        self.audio = b""
        self.info: Mapping[str, Any] = {}  # as in Preview
        self._share = share

    def keep(self, preview: Preview) -> Previewed | None:
        """Replaces the one before. None: there is no room for it, and it is dropped."""
        self.drop()
        try:
            self._share.take(len(preview.audio))
        except Problem:
            return None
        self.step, self.audio, self.info = preview.step, preview.audio, preview.info
        return Previewed(f"/preview/{self.name}/{self.step}", preview.step, preview.total)

    def drop(self) -> None:
        """Gives its bytes back."""
        self._share.give_back(len(self.audio))
        self.step, self.audio = 0, b""


class Previews:
    """The previews of all edits that run, or ran a moment ago. Their bytes are from the budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._newest: dict[str, Newest] = {}

    @contextmanager
    def of_an_edit(self, owner: str) -> Iterator[Newest]:
        """Keeps the newest of an edit while it runs, and for a minute after."""
        newest = Newest(self._budget.share(owner))
        self._newest[newest.name] = newest
        try:
            yield newest
        finally:
            if newest.audio:
                asyncio.get_running_loop().call_later(_KEPT_SECONDS, self._forget, newest)
            else:
                self._forget(newest)

    def find(self, name: str, step: int) -> Newest | None:
        """An edit's newest preview, of that step or a later one; None if there is none."""
        newest = self._newest.get(name)
        return newest if newest and newest.audio and newest.step >= step else None

    def _forget(self, newest: Newest) -> None:
        del self._newest[newest.name]
        newest.drop()
