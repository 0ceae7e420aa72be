"""Many edits at once: each tick, one network call answers what the edits in flight ask for."""

from melodyflow.engine.calls import MAX_TOKENS
from melodyflow.engine.engine import Engine, EngineMetrics
from melodyflow.engine.job import Job, Listener

__all__ = ["MAX_TOKENS", "Engine", "EngineMetrics", "Job", "Listener"]
