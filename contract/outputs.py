"""The table of output tensors."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Output:
    """One output tensor. responses: which carry it."""

    name: str
    wire: str
    sentence: str
    responses: str = "result"
    size: int = 1


OUTPUTS: Mapping[str, Output] = {
    output.name: output
    for output in (
        Output(
            "progress",
            "FP32",
            "0 to 1; never falls; 1 only with the result",
            responses="all but previews",
        ),
        Output(
            "stage",
            "BYTES",
            "`encoding`, `inverting`, `generating`, `decoding`; `done` only with the result",
            responses="all but previews",
        ),
        Output(
            "step",
            "INT32",
            "evaluations done, and the total: `steps` * (R + 1), or 2 * `steps` if R is 0; for "
            "text-to-music `steps`",
            responses="all",
            size=2,
        ),
        Output(
            "preview",
            "BYTES",
            "a FLAC file of what the result would be from here, in the encoding of the input "
            "`audio`",
            responses="previews",
        ),
        Output("audio", "BYTES", "the edited file, in the encoding of the input `audio`"),
        Output("sample_rate", "INT32", "the file's sample rate in Hz"),
        Output("seed", "INT64", "the seed that was used, even if it was random"),
        Output(
            "gain_db",
            "FP32",
            "total gain applied to what was edited, for its `loudness` and to avoid clipping; "
            "0: untouched",
        ),
        Output(
            "info",
            "BYTES",
            "JSON: `parameters` (those in effect, and no others), "
            "`checkpoint` (`name`, `sha256`, `licence`), `precision`, `device`, `loudness` (if one "
            "was asked for) and, always, `clip_lufs` and `result_lufs` (see [Levels](#levels)), "
            "`shared` (what came from other edits: `encoding`, `inversion`, `text`), `seconds` (of "
            "each stage), `version`, `ai_generated`; with a preview the two LUFS alone",
            responses="result, previews",
        ),
    )
}
