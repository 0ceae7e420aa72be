"""What the client can be asked for, typed. Written by scripts/contract."""

from typing import TypedDict


class CommonOptions(TypedDict, total=False):
    """What edits and text-to-music share."""

    # Solver steps of each solve; more is slower and closer to the method's limit: 1 to 128.
    # Default: euler 25, midpoint 64.
    steps: int | None

    # How it is solved; a variation's steps go with its own solver: `euler` or `midpoint`. Default:
    # `euler`; text-to-music `midpoint`.
    solver: str | None

    # How strongly the prompt is followed (classifier-free guidance): 0 to 10. Default: the
    # checkpoint's; 4.0 for the released one.
    guidance: float | None

    # What all noise is drawn from; the same one makes the same take again: 0 to 2147483647; -1:
    # random. Default: the last one used for the clip, else random.
    seed: int | None

    # The result's file: `wav` (PCM 16), `wav24` (PCM 24), `wav32f` (float 32) or `flac` (24 bit).
    # Default: `wav`.
    format: str | None

    # The result's: 8000 to 192000 Hz. Default: the input's own; text-to-music the checkpoint's.
    sample_rate: int | None

    # The result's, whose peak stays at -1 dBTP or below: `none` (as the model makes it), `source`
    # (as loud as the clip) or a number of LUFS from -70 to 0. Default: `source`; text-to-music
    # `none`.
    loudness: float | str | None

    # A name for the server's log, of which 200 characters are kept. Default: empty.
    session_id: str | None

    # `false` writes nothing about the edit into the file. Default: `true`.
    metadata: bool

    # 1 overtakes 2 in the queue, and 2 overtakes 3: 1 to 3. Default: 2; sweeps and takes 3.
    priority: int | None

    # For all of it, the queue and restarts of the server included: seconds above 0. Default: none.
    timeout: float | None


class SweepOptions(CommonOptions, total=False):
    """Of each edit of a sweep: an edit's but variation and prompt."""

    # What the clip is, in words; conditions the inversion: 0 to 1000 characters of UTF-8. Default:
    # empty.
    source_prompt: str | None

    # 0 = most change, towards 1 = the source is kept: 0 <= flowstep < 1. Default: 0.12.
    flowstep: float | None

    # 1 - flowstep, so that 1 = most change; give one of the two: 0 < strength <= 1. Default: 0.88.
    strength: float | None

    # R, the inner iterations of the regularised inversion: 0 (none) or 2 to 8. Default: euler 2,
    # midpoint 0.
    regularize_iters: int | None

    # K, how many of the last of them count: 1 to R; 0 where R is 0. Default: 1 where R > 0, else 0.
    keep_last_k_iters: int | None

    # Weight of the regularisation: 0 to 1. Default: 0.2.
    lambda_kl: float | None

    # Draws a new seed for a clip that has one. Default: `false`.
    new_take: bool

    # Edit from here on only; every sample before it stays: seconds from the clip's start. Default:
    # the clip's start.
    start: float | None

    # Edit up to here only; every sample after it stays: seconds from the clip's start. Default: the
    # clip's end.
    end: float | None

    # The clip is a loop, and the result repeats without a seam; not with a region. Default:
    # `false`.
    loop: bool


class EditOptions(SweepOptions, total=False):
    """Of an edit. All are optional but one of variation and prompt."""

    # A name from `melodyflow variations`, or `custom` with a prompt. Default: none.
    variation: str | None

    # What it should become, in words: 1 to 1000 characters of UTF-8. Default: the variation's.
    prompt: str | None


class GenerateOptions(CommonOptions, total=False):
    """Of text-to-music, beside its prompt. A duration is needed; of a variation only the prompt is
    used."""

    # The length of text-to-music, which has no clip: 0.1 to 600 s. Default: none: an edit.
    duration: float

    # A name from `melodyflow variations`, or `custom` with a prompt. Default: none.
    variation: str | None
