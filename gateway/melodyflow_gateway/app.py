"""Builds the application and puts it behind the door."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import engineio
import socketio
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from melodyflow_client import __version__
from melodyflow_client.aio import AsyncMelodyFlowClient

from .budget import Budget
from .decoding import Decoding
from .door.access_log import AccessLog
from .door.body_budget import BudgetedBody
from .door.body_limit import BodyLimit
from .door.drain import DrainAfterRefusal
from .door.handshake import OpenSockets, SocketCredentials
from .door.head import HeadAsGet
from .door.hosts import AllowedHosts
from .door.origins import AllowedOrigins, pattern_of
from .door.owners import Owners
from .door.quota import Quota
from .door.refusals import Refusals
from .door.security_headers import SecurityHeaders
from .door.sign_ins import InProcessSignIns, SignIns
from .door.tokens import Tokens
from .door.utf8 import Utf8Text
from .edits.edit import Edits
from .edits.jobs import Jobs
from .edits.patience import RETRY
from .edits.previews import Previews
from .edits.triton import Triton
from .metrics import Metrics
from .problems import CLIENT_GONE, Problem, problem_of
from .routes import decode, health, juce, legacy, pages, previews, stream
from .routes.dependencies import Gateway
from .sessions.in_process import InProcessSessions
from .sessions.redis import RedisSessions
from .sessions.redis_sign_ins import RedisSignIns
from .sessions.store import SessionStore
from .settings import Settings
from .shared_folder import SharedFolder
from .socketio.gary import GaryEvents
from .socketio.messages import PlainPackets
from .socketio.namespace import EditNamespace
from .socketio.packets import EngineJson, WithoutTraceback
from .socketio.redis_rooms import RedisRooms
from .socketio.rooms import Rooms
from .socketio.signed_in import SignedInSockets
from .socketio.unread import BoundedServer
from .stopping import Stopping
from .wire import openapi
from .wire.models import INFO_HEADER, SEED_HEADER, WARNINGS_HEADER

_WRONG_TOKENS_PER_MINUTE = 10  # on the token page, from one address

_DESCRIPTION = """\
Text-guided music editing: audio in, a prompt or a named variation, the same bars come back as
another arrangement, exactly as long, at the same rate. Results are AI-generated.

**flowstep: 0 = most change, towards 1 = the source is kept.** Socket.IO is served at
`/socket.io`, namespace `/`; its events are in docs/gateway.md."""


def create_app(
    settings: Settings,
    metrics: Metrics | None = None,
    budget: Budget | None = None,
    stopping: Stopping | None = None,
) -> ASGIApp:
    """The gateway as an ASGI application, for one process and one event loop.

    metrics, budget, stopping: its own, unless the listener shares them.
    """
    metrics = metrics or Metrics()
    budget = budget or Budget(settings.memory_bytes, metrics.budget_bytes)
    gateway, events = _assemble(settings, metrics, budget, stopping or Stopping())
    api = _api(gateway)
    served = socketio.ASGIApp(events, other_asgi_app=api)
    app: ASGIApp = PlainPackets(served, gateway.decoding, gateway.owners)
    for layer, arguments, options in reversed(_door(gateway, events)):
        app = layer(app, *arguments, **options)
    return app


def _door(gateway: Gateway, sockets: OpenSockets) -> list[Middleware]:
    """What a request passes before the application, in this order."""
    settings = gateway.settings
    return [
        Middleware(AccessLog, gateway.metrics),
        Middleware(SecurityHeaders),
        Middleware(DrainAfterRefusal),
        Middleware(Refusals, gateway.metrics),
        Middleware(Utf8Text),
        Middleware(AllowedHosts, settings.allowed_hosts, gateway.tokens),
        Middleware(AllowedOrigins, settings.origins),
        Middleware(SocketCredentials, gateway.owners, sockets, settings.connections),
        Middleware(BodyLimit, settings.max_body_bytes),
        Middleware(BudgetedBody, gateway.budget, gateway.owners),
        *_cors(settings),
    ]


def _cors(settings: Settings) -> list[Middleware]:
    if not settings.origins:
        return []
    allowed = Middleware(
        CORSMiddleware,
        allow_origin_regex=pattern_of(settings.origins),
        allow_methods=["GET", "HEAD", "POST"],
        allow_headers=["Authorization", "Content-Type"],
        expose_headers=[SEED_HEADER, WARNINGS_HEADER, INFO_HEADER, "Retry-After"],
    )
    return [allowed]


def _assemble(
    settings: Settings, metrics: Metrics, budget: Budget, stopping: Stopping
) -> tuple[Gateway, Any]:
    client = AsyncMelodyFlowClient(
        settings.server or None,
        presets=settings.presets or None,
        metrics_url=settings.metrics or None,
        retry=RETRY,
    )
    triton, decoding = Triton(client), Decoding()
    sessions, shared_rooms = _sessions(settings)
    sign_ins: SignIns = (
        RedisSignIns(settings.redis_url) if settings.redis_url else InProcessSignIns()
    )
    tokens = Tokens(settings.accepted_tokens)
    owners = Owners(tokens, sign_ins)
    quota = Quota(settings.edits_per_minute, settings.concurrent_edits, stopping)
    previews = Previews(budget)
    edits = Edits(
        client,
        triton,
        sessions,
        metrics,
        decoding,
        previews,
        stopping,
        max_seconds=settings.max_seconds,
        edit_seconds=settings.edit_seconds,
        owner_slots=settings.owner_slots,
    )
    jobs = Jobs(edits, sessions, stopping)
    server = BoundedServer(
        most_unread=2 * settings.max_body_bytes,
        budget=budget,
        async_mode="asgi",
        client_manager=shared_rooms,
        cors_allowed_origins=[],  # none of its own: the door has checked the origin
        max_http_buffer_size=settings.max_body_bytes,
        http_compression=False,  # it would be done on the event loop
        # Without these, the two libraries print plain text to stderr, tracebacks too.
        logger=logging.getLogger("socketio.server"),
        engineio_logger=logging.getLogger("engineio.server"),
    )
    engineio.packet.Packet.json = EngineJson
    for name in ("socketio.server", "engineio.server"):
        logging.getLogger(name).addFilter(WithoutTraceback())
    gary = GaryEvents(settings.redis_url) if settings.gary_events else None
    rooms = Rooms(server, shared_rooms, gary)
    server.register_namespace(
        EditNamespace(rooms, jobs, sessions, owners, quota, metrics, budget, decoding)
    )
    gateway = Gateway(
        settings=settings,
        client=client,
        owners=owners,
        sign_ins=sign_ins,
        tokens=tokens,
        quota=quota,
        wrong_tokens=Quota(_WRONG_TOKENS_PER_MINUTE, 1),
        stopping=stopping,
        sessions=sessions,
        metrics=metrics,
        triton=triton,
        decoding=decoding,
        budget=budget,
        edits=edits,
        previews=previews,
        jobs=jobs,
        rooms=rooms,
        sockets=SignedInSockets(server, owners),
        shared=_shared(settings, tokens),
    )
    return gateway, server


def _shared(settings: Settings, tokens: Tokens) -> SharedFolder | None:
    if not settings.shared_folder:
        return None
    named = {tokens.owner_of(token) or "" for token in settings.shared_tokens}
    return SharedFolder(
        settings.shared_folder, settings.max_body_bytes, named if tokens.owners else None
    )


def _sessions(settings: Settings) -> tuple[SessionStore, RedisRooms | None]:
    """The store of sessions, and Socket.IO's way to clients of other gateways."""
    if settings.redis_url:
        shared = RedisSessions(settings.redis_url, settings.session_seconds, settings.poll_seconds)
        return shared, RedisRooms(settings.redis_url, shared)
    own = InProcessSessions(
        settings.sessions, settings.session_bytes, settings.session_seconds, settings.poll_seconds
    )
    return own, None


def _api(gateway: Gateway) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None, None]:
        gateway.triton.refresh()
        watching = asyncio.create_task(gateway.sockets.watch())
        yield
        watching.cancel()
        await gateway.jobs.close()
        await gateway.rooms.close()
        gateway.decoding.close()
        await gateway.client.close()
        await gateway.sessions.close()
        await gateway.sign_ins.close()

    api = FastAPI(
        title="MelodyFlow gateway",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        middleware=[Middleware(HeadAsGet)],
        docs_url=None,
        redoc_url=None,
        exception_handlers={
            Problem: _answer_problem,
            HTTPException: _answer_http,
            RequestValidationError: _answer_invalid,
            ClientDisconnect: _answer_nobody,
            Exception: _answer_failure,
        },
    )
    api.state.gateway = gateway
    for part in (legacy, stream, previews, juce, decode, health, pages):
        api.include_router(part.router)
    openapi.complete(api)
    pages.mount(api)
    return api


async def _answer_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    request.app.state.gateway.metrics.count_refusal(error.status)
    return _error(request, error.status, error.message, error.headers)


async def _answer_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error(request, error.status_code, error.detail, dict(error.headers or {}))


async def _answer_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    flaw = error.errors()[0]
    return _error(request, 400, f"{flaw['loc'][-1]}: {flaw['msg']}", {})


async def _answer_nobody(request: Request, _: Exception) -> Response:
    """The client left while it was sending: only the log sees this."""
    return Response(status_code=CLIENT_GONE)


async def _answer_failure(request: Request, error: Exception) -> Response:
    problem = problem_of(error)
    return _error(request, problem.status, problem.message, problem.headers)


def _error(request: Request, status: int, message: str, headers: dict[str, str]) -> Response:
    body: dict[str, object] = {"error": message}
    if request.url.path.startswith(juce.PREFIX):
        body = {"success": False, **body}
    return JSONResponse(body, status, headers)
