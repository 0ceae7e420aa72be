"""One edit, or one piece of text-to-music, from start to end: the reference that defines correct
results. The engine does the same for many at once."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from melodyflow import flow
from melodyflow.contract import INPUTS, default_of, evaluations, inversion_evaluations
from melodyflow.flow import Point, Solve
from melodyflow.model import MelodyFlow
from melodyflow.model.codec import posterior_sample
from melodyflow.model.fused import FusedFlow
from melodyflow.model.transformer import Network, Row, Text
from melodyflow.windows import Region, Windows

Solver = Literal["euler", "midpoint"]


@dataclass(frozen=True)
class Parameters:
    """An edit's parameters, named as in the tensor contract. Values aren't checked here:
    `serving.request` checks their ranges."""

    prompt: str
    seed: int  # of the CPU generator from which all noise is drawn
    source_prompt: str = default_of("source_prompt")
    flowstep: float = default_of("flowstep")  # where the inversion stops: 0 = most change
    steps: int = default_of("steps")  # of each of the two solves
    solver: Solver = default_of("solver")
    guidance: float = 4.0  # requests without one use the checkpoint's
    regularize_iters: int = default_of("regularize_iters")  # R; 0: plain inversion
    keep_last_k_iters: int = default_of("keep_last_k_iters")  # K
    lambda_kl: float = default_of("lambda_kl")
    start: float | None = None  # seconds; only the part between start and end is changed
    end: float | None = None
    loop: bool = default_of("loop")  # the clip is a ring: its end is followed by its start
    duration: float | None = None  # seconds; if given: text-to-music, without an inversion

    @property
    def has_region(self) -> bool:
        """Whether only a part of the clip is changed."""
        return self.start is not None or self.end is not None

    def in_effect(self) -> dict[str, Any]:
        """The parameters that affect the result, by name."""
        what: Literal["edit", "music"] = "edit" if self.duration is None else "music"
        return {
            name: value
            for name, value in asdict(self).items()
            if value is not None and INPUTS[name].is_for(what)
        }

    @property
    def inversion_evaluations(self) -> int:
        """Network evaluations of the inversion, which comes first."""
        if self.duration is not None:
            return 0
        return inversion_evaluations(self.steps, self.regularize_iters)

    @property
    def evaluations(self) -> int:
        """The total number of network evaluations."""
        return evaluations(self.steps, self.regularize_iters, music=self.duration is not None)


def source_latents(model: MelodyFlow, mean_and_scale: Tensor, rng: torch.Generator) -> Tensor:
    """Samples normalised latents [1, latent, frames] from a source's posterior: the edit's first
    draw."""
    mean, _ = mean_and_scale.chunk(2, dim=1)
    return model.flow.normalise(posterior_sample(mean_and_scale, flow.noise_like(mean, rng)))


def inversion(
    source: Tensor, parameters: Parameters, text: Text | None, rng: torch.Generator
) -> Solve:
    """Solves from the normalised source latents [1, latent, frames] down to the flowstep, without
    the prompt."""
    grid = flow.time_grid(1.0, parameters.flowstep, parameters.steps)
    if not parameters.regularize_iters:
        return flow.solve(parameters.solver, source, grid, text, 0.0)
    return flow.regularised_inversion(
        source,
        grid,
        text,
        iterations=parameters.regularize_iters,
        keep=parameters.keep_last_k_iters,
        lambda_kl=parameters.lambda_kl,
        rng=rng,
    )


def starting_noise(model: MelodyFlow, frames: int, rng: torch.Generator) -> Tensor:
    """The starting noise of text-to-music, [1, latent, frames]: its only draw."""
    noise = torch.randn((1, model.flow.config.latent_dim, frames), generator=rng)
    return noise.to(model.device)


def generation(inverted: Tensor, parameters: Parameters, text: Text | None) -> Solve:
    """Solves from the inverted latents [1, latent, frames] up to music, with the prompt and
    guidance. Draws no noise."""
    grid = flow.time_grid(parameters.flowstep, 1.0, parameters.steps)
    return flow.solve(parameters.solver, inverted, grid, text, parameters.guidance)


def region(model: MelodyFlow, source: Tensor, parameters: Parameters) -> Region | None:
    """The frames of a source's normalised latents [1, latent, frames] between start and end; None
    if the edit has no region."""
    if not parameters.has_region:
        return None
    frames, rate = source.shape[-1], model.codec.config.frame_rate
    first = math.floor((parameters.start or 0.0) * rate)
    last = frames if parameters.end is None else min(math.ceil(parameters.end * rate), frames)
    return Region(source, first, last)


def flowsteps(parameters: Parameters) -> list[float]:
    """Every flowstep at which an edit's solves need a velocity."""
    down = flow.time_grid(1.0, parameters.flowstep, parameters.steps)
    return down + flow.time_grid(parameters.flowstep, 1.0, parameters.steps)


def rows(point: Point, times: dict[float, Tensor], windows: Windows) -> list[list[Row]]:
    """The network rows for a point, window by window: its rows, followed by the same rows without
    text if guidance is used."""
    texts = [point.text, None] if point.text is not None and point.guidance else [point.text]
    time = times[point.flowstep]
    return [
        [Row(latents, point.flowstep, time, text) for text in texts for latents in seen]
        for seen in windows.cut(point.latents)
    ]


def velocity(point: Point, answers: Sequence[Sequence[Tensor]], windows: Windows) -> Tensor:
    """The velocity [rows, latent, frames] at a point from the network's answers to its `rows`."""
    answer = windows.blend([torch.stack(list(seen)) for seen in answers])
    if len(answer) != len(point.latents):
        conditional, null = answer.chunk(2)
        answer = flow.guided(conditional, null, point.guidance)
    if windows.region is not None:
        answer = windows.region.hold(answer, point.latents, point.flowstep)
    return answer


def drive(
    network: Network,
    solve: Solve,
    times: dict[float, Tensor],
    windows: Windows,
    on_evaluation: Callable[[], None] = lambda: None,
) -> Tensor:
    """Runs one solve to its end, with one network call per window of a point. Returns its
    latents."""
    try:
        point = next(solve)
        while True:
            answers = [network(asked) for asked in rows(point, times, windows)]
            answer = velocity(point, answers, windows)
            on_evaluation()
            point = solve.send(answer)
    except StopIteration as end:
        result: Tensor = end.value
        return result


@torch.inference_mode()
def edit_latents(
    model: MelodyFlow,
    mean_and_scale: Tensor,
    parameters: Parameters,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Tensor:
    """The edited latents [1, latent, frames], normalised, of a source's posterior [1, 2*latent,
    frames].

    `on_progress(done, total)` is called after each evaluation.
    """
    done = 0

    def evaluated() -> None:
        nonlocal done
        done += 1
        on_progress(done, parameters.evaluations)

    rng = torch.Generator().manual_seed(parameters.seed)
    source = source_latents(model, mean_and_scale, rng)
    times = model.flow.embed_times(flowsteps(parameters))
    windows = Windows(source.shape[-1], model.max_frames, ring=parameters.loop)
    source_text = model.read_text(parameters.source_prompt)
    down = inversion(source, parameters, source_text, rng)
    inverted = drive(model.network, down, times, windows, evaluated)
    up = generation(inverted, parameters, model.read_text(parameters.prompt))
    if parameters.has_region:
        windows = Windows(source.shape[-1], model.max_frames, region(model, source, parameters))
    return drive(model.network, up, times, windows, evaluated)


@torch.inference_mode()
def edit(
    model: MelodyFlow,
    waveform: Tensor,
    parameters: Parameters,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Tensor:
    """Edits a waveform [channels, samples] at the model's rate. Returns [channels, frames*hop],
    untrimmed. A loop must be a whole number of frames long."""
    mean_and_scale = model.encode(waveform[None].to(model.device), ring=parameters.loop)
    latents = edit_latents(model, mean_and_scale, parameters, on_progress)
    return model.decode(latents, ring=parameters.loop)[0]


@torch.inference_mode()
def generate_latents(model: MelodyFlow, frames: int, parameters: Parameters) -> Tensor:
    """Normalised latents [1, latent, frames] of music generated from noise and the prompt
    (flowstep 0)."""
    rng = torch.Generator().manual_seed(parameters.seed)
    noise = starting_noise(model, frames, rng)
    text = model.read_text(parameters.prompt)
    times = model.flow.embed_times(flowsteps(parameters))
    windows = Windows(frames, model.max_frames)
    return drive(model.network, generation(noise, parameters, text), times, windows)


@torch.inference_mode()
def generate(model: MelodyFlow, samples: int, parameters: Parameters) -> Tensor:
    """Text-to-music: a waveform [channels, frames*hop], untrimmed, of at least `samples` at the
    model's rate."""
    frames = model.codec.config.frames(samples)
    return model.decode(generate_latents(model, frames, parameters))[0]


def warm_up(model: MelodyFlow, max_tokens: int = 0) -> None:
    """Runs one edit, of a second on a CPU and of the whole window on a GPU, because the first call
    of a kernel or shape takes far longer than the next. `max_tokens`: per network call."""
    seconds = 1.0 if model.device.type == "cpu" else model.flow.config.segment_duration
    config = model.codec.config
    silence = torch.zeros(config.channels, round(seconds * config.sample_rate))
    edit(model, silence, Parameters(prompt="warm-up", seed=0, steps=2))
    if isinstance(model.network, FusedFlow):
        model.network.prepare(max_tokens)
