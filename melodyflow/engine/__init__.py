"""Runs many edits at once: one network call at a time serves all edits in flight."""

from melodyflow.engine.calls import MAX_TOKENS
from melodyflow.engine.engine import Engine, EngineMetrics
from melodyflow.engine.job import Check, Job, Listener

__all__ = ["MAX_TOKENS", "Check", "Engine", "EngineMetrics", "Job", "Listener"]
