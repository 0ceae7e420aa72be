"""A real tritonserver without Docker: found in a wheel, run on loopback, watched and replaced."""

from melodyflow.embedded.server import DEMO_CHECKPOINT, MODEL_REPOSITORY, EmbeddedServer

__all__ = ["DEMO_CHECKPOINT", "MODEL_REPOSITORY", "EmbeddedServer"]
