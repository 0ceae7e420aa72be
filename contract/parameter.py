"""One parameter: what is known about it, and its range as a check and in words."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .limits import DEFAULT_LIMITS

Kind = Literal["switch", "choice", "text", "whole", "number"]
Scope = Literal["both", "edit", "music"]  # music: text-to-music, which has no clip
# Parameters that belong together in a form. Those without a group are for programs that talk to
# Triton directly; clients don't offer them.
Group = Literal[
    "",
    "target",
    "distance",
    "part",
    "solve",
    "take",
    "inversion",
    "music",
    "result",
    "previews",
    "request",
]

_KINDS: dict[str, Kind] = {
    "BYTES": "text",
    "BOOL": "switch",
    "FP32": "number",
    "INT32": "whole",
    "INT64": "whole",
}


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One parameter.

    sentence, note: what it does, and what the contract's page adds. section: the anchor there with
        more about it.
    wire: the type of its input tensor; "": it has none. own_kind: the kind of its value, if it has
        no `wire`.
    group: "": clients don't offer it. at_gateway: its name there, if it differs.
    lowest, highest: bounds of a number or of a text's length; a string names a limit. above, below:
        the bound itself is excluded. without: a number in between that is excluded.
    choices: allowed words and what they mean; with a range, numbers are allowed too.
    range_words, allowed_words: what is allowed, in documents and in errors, if the fields above
        can't tell.
    default: a value, one for each solver, or None if only the request can tell. music_default: for
        text-to-music. default_words, client_default: in documents, for the server and for clients.
    excludes: parameters it can't be combined with. because, not_with: the reason, in a client's and
        in the server's error.
    """

    name: str
    sentence: str
    note: str = ""
    section: str = ""
    wire: str = ""
    own_kind: Kind = "text"
    scope: Scope = "both"
    group: Group = ""
    lowest: float | str | None = None
    highest: float | str | None = None
    above: bool = False
    below: bool = False
    without: float | None = None
    choices: Mapping[str, str] = field(default_factory=dict)
    unit: str = ""
    range_words: str = ""
    allowed_words: str = ""
    default: Any = None
    music_default: Any = None
    default_words: str = ""
    client_default: str = ""
    excludes: tuple[str, ...] = ()
    because: str = ""
    not_with: str = ""
    at_gateway: str = ""
    example: Any = None

    @property
    def kind(self) -> Kind:
        """The kind of its value."""
        if self.choices and self.lowest is None:
            return "choice"
        return _KINDS[self.wire] if self.wire else self.own_kind

    @property
    def flag(self) -> str:
        """Its command-line option."""
        return f"--{'no-' if self.default is True else ''}{self.name.replace('_', '-')}"

    @property
    def field_name(self) -> str:
        """Its name at the gateway."""
        return self.at_gateway or self.name

    @property
    def python_type(self) -> str:
        """The type of its value in Python; None takes the default."""
        if self.scope == "music":
            return "float"
        if self.choices and self.kind != "choice":
            return "float | str | None"
        types = {"switch": "bool", "whole": "int | None", "number": "float | None"}
        return types.get(self.kind, "str | None")

    def is_for(self, what: Literal["edit", "music"]) -> bool:
        """Whether it applies to edits, or to text-to-music."""
        return self.scope in ("both", what)

    def bounds(
        self, limits: Mapping[str, float] = DEFAULT_LIMITS
    ) -> tuple[float | None, float | None]:
        """The lowest and the highest value; None: unbounded, or the limit is unknown."""
        low, high = (
            limits.get(bound) if isinstance(bound, str) else bound
            for bound in (self.lowest, self.highest)
        )
        return low, high

    def holds(self, value: float, limits: Mapping[str, float] = DEFAULT_LIMITS) -> bool:
        """Whether a number, or a text's length, is in range. NaN never is."""
        low, high = self.bounds(limits)
        above = low is None or (value > low if self.above else value >= low)
        beneath = high is None or (value < high if self.below else value <= high)
        return above and beneath and value == value and value != self.without

    def allowed(self, limits: Mapping[str, float] = DEFAULT_LIMITS) -> str:
        """What is allowed, for errors."""
        if self.allowed_words:
            return self.allowed_words
        if self.kind == "choice":
            return f"{' or '.join(self.choices)} are allowed"
        if self.kind == "switch":
            return "true or false"
        return f"{self._range(limits)} are allowed"

    def range(self, limits: Mapping[str, float] = DEFAULT_LIMITS) -> str:
        """What is allowed, for documents; "" if anything is."""
        if self.range_words:
            return self.range_words
        if self.choices:
            choices = [
                f"`{name}`" + (f" ({means})" if means else "")
                for name, means in self.choices.items()
            ]
            return f"{', '.join(choices[:-1])} or {choices[-1]}"
        if self.kind == "switch" or (self.lowest is None and self.highest is None):
            return ""
        if self.above or self.below:
            low, high = self.bounds(limits)
            return (
                f"{number(low)} {'<' if self.above else '<='} {self.name} "
                f"{'<' if self.below else '<='} {number(high)}"
            )
        return self._range(limits)

    def _range(self, limits: Mapping[str, float]) -> str:
        low, high = self.bounds(limits)
        unit = "characters of UTF-8" if self.kind == "text" else self.unit
        words = f"{number(low)} to {number(high)}"
        if low is None or high is None:
            words = f"at least {number(low)}" if high is None else f"at most {number(high)}"
        return f"{words} {unit}".rstrip()

    def meaning(self, limits: Mapping[str, float] = DEFAULT_LIMITS) -> str:
        """What it does, and what is allowed."""
        allowed = self.range(limits)
        return f"{self.sentence}: {allowed}" if allowed else self.sentence

    @property
    def default_text(self) -> str:
        """Its default, for documents."""
        if self.default_words:
            return self.default_words
        if isinstance(self.default, dict):
            return ", ".join(f"{solver} {value}" for solver, value in self.default.items())
        if isinstance(self.default, bool):
            return f"`{str(self.default).lower()}`"
        text = f"`{self.default}`" if isinstance(self.default, str) else number(self.default)
        return text + (f"; text-to-music `{self.music_default}`" if self.music_default else "")


def number(value: float | None) -> str:
    """A number as people write it."""
    return "" if value is None else str(value) if isinstance(value, int) else f"{value:g}"
