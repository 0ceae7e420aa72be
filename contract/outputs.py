"""The table of output tensors."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Output:
    """One output tensor. last: it comes with the result alone."""

    name: str
    wire: str
    sentence: str
    last: bool = True
    size: int = 1


OUTPUTS: Mapping[str, Output] = {
    output.name: output
    for output in (
        Output("progress", "FP32", "0 to 1; never falls; 1 only with the result", last=False),
        Output(
            "stage",
            "BYTES",
            "`encoding`, `inverting`, `generating`, `decoding`; `done` only with the result",
            last=False,
        ),
        Output(
            "step",
            "INT32",
            "evaluations done and in total. The total is `steps` * (R + 1), or 2 * `steps` where "
            "R is 0; of text-to-music `steps`",
            last=False,
            size=2,
        ),
        Output("audio", "BYTES", "the edited file, in the encoding that `audio` had"),
        Output("sample_rate", "INT32", "of the file, in Hz"),
        Output("seed", "INT64", "the seed that was used, also where it was random"),
        Output(
            "gain_db",
            "FP32",
            "by how much, in all, what was edited was turned up (positive) or down: for its "
            "`loudness`, and so that it does not clip; 0: untouched",
        ),
        Output(
            "info",
            "BYTES",
            "JSON: `parameters` (what was in effect; what has no effect is not there), "
            "`checkpoint` (`name`, `sha256`, `licence`), `precision`, `device`, `loudness` (where "
            "one was asked for, see [Levels](#levels)), `shared` (what was there from other "
            "edits: `encoding`, `inversion`, `text`), `seconds` (of each stage), `version`, "
            "`ai_generated`",
        ),
    )
}
