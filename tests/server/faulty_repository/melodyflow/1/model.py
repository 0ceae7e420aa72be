"""The real model, its network failing where it is asked to: MELODYFLOW_FAULTS names for each fault
the length, in latent frames, of the clip that brings it into every call it is part of.
While the file MELODYFLOW_HOLD exists no call goes on, so that edits meet on the slowest machine.

The config.pbtxt beside it is the real one, which the tests copy.
"""

import importlib.util
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from melodyflow.embedded import MODEL_REPOSITORY
from melodyflow.model.transformer import Row

spec = importlib.util.spec_from_file_location(
    "real_model", MODEL_REPOSITORY / "melodyflow" / "1" / "model.py"
)
assert spec
assert spec.loader
real = importlib.util.module_from_spec(spec)
spec.loader.exec_module(real)

FAULTS: dict[str, int] = json.loads(os.environ["MELODYFLOW_FAULTS"])
HOLD = Path(os.environ["MELODYFLOW_HOLD"])
FIT = 3  # rows that fit into the memory beside "crowded"

Network = Callable[[Sequence[Row]], list[Tensor]]


class Death(BaseException):
    """What no handler of an edit's errors catches."""


class TritonPythonModel(real.TritonPythonModel):  # type: ignore[misc, name-defined]
    def initialize(self, args: dict[str, str]) -> None:
        super().initialize(args)
        engine = self.service._engine
        engine.network = faulty(engine.network)


def faulty(network: Network) -> Network:
    def call(rows: Sequence[Row]) -> list[Tensor]:
        while HOLD.exists():
            time.sleep(0.01)
        lengths = [row.latents.shape[-1] for row in rows]
        if FAULTS["death"] in lengths:
            raise Death("the loop is to die")
        if FAULTS["error"] in lengths:
            raise RuntimeError("a fault in the network")
        crowded = FAULTS["crowded"] in lengths and len(rows) > FIT
        if crowded or FAULTS["out of memory"] in lengths:
            raise torch.OutOfMemoryError("no memory for it")
        return [
            torch.full_like(answer, torch.nan) if length == FAULTS["nan"] else answer
            for answer, length in zip(network(rows), lengths, strict=True)
        ]

    return call
