"""A real tritonserver with the real model."""

from pathlib import Path

from melodyflow.embedded import EmbeddedServer


def on_the_cpu(checkpoint: Path, *, log: Path | None = None, **settings: str) -> EmbeddedServer:
    """A server on free ports, not yet started; settings by their names."""
    return EmbeddedServer(
        checkpoint,
        http_port=0,
        grpc_port=0,
        metrics_port=0,
        settings={"DEVICE": "cpu", "PRECISION": "fp32", **settings},
        log=log,
        exit_timeout=20,
    )
