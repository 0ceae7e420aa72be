"""The real model with slow network calls: each takes MELODYFLOW_CALL_SECONDS longer.

The time is slept, or, where MELODYFLOW_CALL_HOW is "burn", spent in Python, so that all other
threads must fight for the interpreter.

The config.pbtxt beside it is the real one, which the drill copies.
"""

import importlib.util
import os
import time
from collections.abc import Callable, Sequence

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

SECONDS = float(os.environ["MELODYFLOW_CALL_SECONDS"])
BURNS = os.environ["MELODYFLOW_CALL_HOW"] == "burn"

Network = Callable[[Sequence[Row]], list[Tensor]]


class TritonPythonModel(real.TritonPythonModel):  # type: ignore[misc, name-defined]
    def initialize(self, args: dict[str, str]) -> None:
        super().initialize(args)
        engine = self.service._engine
        engine.network = slow(engine.network)


def slow(network: Network) -> Network:
    def call(rows: Sequence[Row]) -> list[Tensor]:
        until = time.monotonic() + SECONDS
        while BURNS and time.monotonic() < until:
            pass
        time.sleep(max(0.0, until - time.monotonic()))
        return network(rows)

    return call
