"""What the workers compute before and after the solves: encoding, text conditioning, decoding."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor

from melodyflow import edit
from melodyflow.engine.cache import Cache
from melodyflow.engine.gpu import Gpu
from melodyflow.engine.job import Job, waveform_key
from melodyflow.flow import Solve
from melodyflow.model import MelodyFlow
from melodyflow.model.transformer import Text
from melodyflow.windows import Region, Windows


class Stages:
    """The parts of the model that run outside the step loop, with a cache that edits share."""

    def __init__(self, model: MelodyFlow, cache: Cache, gpu: Gpu | None) -> None:
        self.model = model
        self._cache = cache
        self._gpu = gpu

    @contextmanager
    def beside_the_loop(self) -> Iterator[None]:
        """Must wrap the methods below. On a GPU, their results are ready when it exits."""
        with self._gpu.beside() if self._gpu else nullcontext():
            yield

    def times(self, job: Job) -> dict[float, Tensor]:
        """Time embeddings of all of an edit's flowsteps."""
        times = self.model.flow.embed_times(edit.flowsteps(job.parameters))
        self._give(*times.values())
        return times

    def text(self, job: Job, prompt: str) -> Text | None:
        """The network's keys and values for a prompt; None for ""."""
        if not prompt:
            return None
        embedding, found = self._cache.get_or_make(
            ("text", prompt), lambda: self.model.text(prompt)
        )
        if found:
            job.shared.add("text")
        text = self.model.flow.read_text(embedding)
        self._give(text.keys, text.values)
        return text

    def posterior(self, job: Job, waveform: Tensor, identity: str) -> Tensor:
        """A source's posterior, from the cache or the encoder."""
        ring = job.parameters.loop
        posterior, found = self._cache.get_or_make(
            ("posterior", identity, ring),
            lambda: self.model.encode(waveform[None].to(self.model.device), ring=ring),
        )
        if found:
            job.shared.add("encoding")
        return posterior

    def latents(self, posterior: Tensor, rng: torch.Generator) -> Tensor:
        """Normalised source latents."""
        latents = edit.source_latents(self.model, posterior, rng)
        self._give(latents)
        return latents

    def noise(self, job: Job) -> Tensor:
        """The starting noise of text-to-music."""
        rng = torch.Generator().manual_seed(job.parameters.seed)
        noise = edit.starting_noise(self.model, job.frames, rng)
        self._give(noise)
        return noise

    def windows(self, job: Job, frames: int, region: Region | None = None) -> Windows:
        """The windows in which the network sees an edit's latents."""
        return Windows(frames, self.model.max_frames, region, ring=job.parameters.loop)

    def decode(self, job: Job, latents: Tensor) -> Tensor:
        """The waveform [channels, frames*hop], on the CPU."""
        return self.model.decode(latents, ring=job.parameters.loop)[0].float().cpu()

    def _give(self, *tensors: Tensor) -> None:
        """Passes tensors to the step loop."""
        if self._gpu:
            self._gpu.give(*tensors)


class Source:
    """An edit's source, encoded once, when first needed."""

    def __init__(self, stages: Stages, job: Job, waveform: Tensor) -> None:
        self.identity = waveform_key(waveform)
        self._stages = stages
        self._job = job
        self._waveform = waveform
        self._posterior: Tensor | None = None

    def latents(self) -> tuple[Tensor, torch.Generator]:
        """The normalised latents, and the edit's generator after drawing them."""
        # No cached_property: before Python 3.12 all sources would wait for one another's.
        if self._posterior is None:
            self._posterior = self._stages.posterior(self._job, self._waveform, self.identity)
        rng = torch.Generator().manual_seed(self._job.parameters.seed)
        return self._stages.latents(self._posterior, rng), rng

    def region(self) -> Region | None:
        """The region to change; None for the whole clip."""
        parameters = self._job.parameters
        if not parameters.has_region:
            return None
        return edit.region(self._stages.model, self.latents()[0], parameters)

    def inversion(self) -> tuple[Solve, Windows]:
        """The solve that inverts the source."""
        latents, rng = self.latents()
        parameters = self._job.parameters
        text = self._stages.text(self._job, parameters.source_prompt)
        solve = edit.inversion(latents, parameters, text, rng)
        return solve, self._stages.windows(self._job, latents.shape[-1])
