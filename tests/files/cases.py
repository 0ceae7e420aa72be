"""All files, by kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from . import changing, whole
from .case import Case

KINDS: dict[str, Callable[[], Iterator[Case]]] = {**whole.KINDS, **changing.KINDS}
