"""Many edits at once: each tick, one network call answers what the edits in flight ask for."""

from melodyflow.engine.calls import MAX_TOKENS
from melodyflow.engine.engine import Engine, EngineMetrics
from melodyflow.engine.job import Code, EditError, Job, Listener

__all__ = ["MAX_TOKENS", "Code", "EditError", "Engine", "EngineMetrics", "Job", "Listener"]
