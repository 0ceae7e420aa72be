"""A real tritonserver without Docker: from a wheel, on loopback, watched and restarted."""

from melodyflow.embedded.server import DEMO_CHECKPOINT, MODEL_REPOSITORY, EmbeddedServer

__all__ = ["DEMO_CHECKPOINT", "MODEL_REPOSITORY", "EmbeddedServer"]
