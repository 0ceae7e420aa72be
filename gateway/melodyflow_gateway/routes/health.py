"""Health, limits and metrics."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from melodyflow_client import __version__
from melodyflow_client.contract import LIMIT_NAMES, OPTIONS

from ..wire.models import Health, LimitsAnswer, Queue, Range
from ..wire.openapi import errors
from .dependencies import Owner, Shared

router = APIRouter(tags=["operations"])


@router.get(
    "/health",
    summary="Whether edits are accepted",
    description="Needs no token. The server's state is at most about a second old.",
    response_model=Health,
    responses={
        503: {"model": Health, "description": "Edits are not accepted right now."},
        **errors(),
    },
)
async def health(gateway: Shared) -> Response:
    status = await gateway.triton.status()
    error = status.error
    if not status.model_ready and error is None:
        error = "the server is up, but its model is not ready"
    if not await gateway.sessions.ping():
        error = "can't reach Redis"
    answer = Health(
        status="healthy" if error is None else "unhealthy",
        error=error,
        gpu_available=gateway.triton.gpu,
        model_loaded=status.model_ready,
        uptime=round(time.monotonic() - gateway.started, 1),
        resources=gateway.triton.resources,
        queue=Queue(
            waiting=status.pending,
            gateway_waiting=gateway.edits.waiting,
            gateway_running=gateway.edits.running,
        ),
        checkpoint=gateway.triton.checkpoint,
        version=__version__,
    )
    headers = {} if error is None else {"Retry-After": "5"}
    return JSONResponse(answer.model_dump(), 200 if error is None else 503, headers)


@router.get(
    "/limits",
    summary="The server's limits",
    description="What the server accepts; at most about a second old.",
    response_model=LimitsAnswer,
    responses=errors(401),
)
async def limits(gateway: Shared, owner: Owner) -> LimitsAnswer:
    known = await gateway.edits.limits()
    bounds = {row.field_name: row.bounds(known) for row in OPTIONS.values()}
    return LimitsAnswer(
        limits={name: known.get(name) for name in LIMIT_NAMES},
        fields={name: Range(lowest=low, highest=high) for name, (low, high) in bounds.items()},
    )


_METRICS_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Prometheus' text format.",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    }
}


@router.get(
    "/metrics",
    summary="The gateway's metrics",
    response_class=Response,
    responses={**_METRICS_ANSWER, **errors(401)},
)
async def metrics(gateway: Shared, owner: Owner) -> Response:
    sizes = await gateway.sessions.sizes()
    if sizes is not None:
        gateway.metrics.sessions.set(sizes[0])
        gateway.metrics.session_bytes.set(sizes[1])
    return Response(gateway.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
