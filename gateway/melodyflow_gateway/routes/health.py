"""Health, limits and metrics."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from melodyflow_client import __version__
from melodyflow_client.contract import LIMIT_NAMES, OPTIONS
from melodyflow_client.status import Status

from ..stopping import REASON
from ..wire.models import Health, HealthLimits, LimitsAnswer, Queue, Range, Ready
from ..wire.old_requests import OLD_FORMATS
from ..wire.openapi import errors
from .dependencies import Gateway, Owner, Shared

_ANSWER_SECONDS, _LIMITS_SECONDS = 0.7, 2.0  # for which Triton is waited for

router = APIRouter(tags=["operations"])


@router.get(
    "/health",
    summary="What runs, and whether an old client enables its button",
    description=(
        "Needs no token and answers within a second. Clients of the old service enable their "
        "button on 200. So 200 is also the answer while the server may be loading, with `status` "
        "`warming`: for `warming_seconds` after the gateway started or the server was last ready. "
        "Probes use `/ready`."
    ),
    response_model=Health,
    responses={
        503: {"model": Health, "description": "Edits are not accepted right now."},
        **errors(),
    },
)
async def health(gateway: Shared) -> Response:
    status, away, broken = await _state(gateway)
    error = broken or away
    warming = not broken and gateway.triton.away_seconds < gateway.settings.warming_seconds
    answer = Health(
        status="healthy" if error is None else "warming" if warming else "unhealthy",
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
        limits=HealthLimits(
            seconds=gateway.edits.known_limits(status).get("max_seconds"),
            bytes=gateway.settings.max_body_bytes,
        ),
        audio_formats=[*OPTIONS["format"].choices, *OLD_FORMATS],
        checkpoint=gateway.triton.checkpoint,
        version=__version__,
    )
    return _answer(answer, error is None or warming)


@router.get(
    "/ready",
    summary="Whether edits are accepted",
    description="For probes. Needs no token and answers within a second.",
    response_model=Ready,
    responses={
        503: {"model": Ready, "description": "Edits are not accepted right now."},
        **errors(),
    },
)
async def ready(gateway: Shared) -> Response:
    _, away, broken = await _state(gateway)
    error = broken or away
    return _answer(Ready(ready=error is None, error=error), error is None)


async def _state(gateway: Gateway) -> tuple[Status, str | None, str | None]:
    """The server's state, why it takes no edits, and what else is broken."""
    status, redis = await asyncio.gather(
        gateway.triton.status(patience=_ANSWER_SECONDS), gateway.sessions.ping()
    )
    away = status.error
    if away is None and not status.model_ready:
        away = "the server is up, but its model is not ready"
    broken = REASON if gateway.stopping.begun else None if redis else "can't reach Redis"
    return status, away, broken


def _answer(answer: BaseModel, good: bool) -> Response:
    headers = {} if good else {"Retry-After": "5"}
    return JSONResponse(answer.model_dump(), 200 if good else 503, headers)


@router.get(
    "/limits",
    summary="The server's limits",
    description="What the server accepts; at most about a second old.",
    response_model=LimitsAnswer,
    responses=errors(401),
)
async def limits(gateway: Shared, owner: Owner) -> LimitsAnswer:
    known = gateway.edits.known_limits(await gateway.triton.status(_LIMITS_SECONDS))
    bounds = {row.field_name: row.bounds(known) for row in OPTIONS.values()}
    return LimitsAnswer(
        limits={name: known.get(name) for name in LIMIT_NAMES},
        fields={name: Range(lowest=low, highest=high) for name, (low, high) in bounds.items()},
        max_body_bytes=gateway.settings.max_body_bytes,
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
