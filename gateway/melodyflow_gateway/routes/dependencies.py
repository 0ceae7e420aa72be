"""What all routes share."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyCookie, HTTPBearer

from melodyflow_client.aio import AsyncMelodyFlowClient

from ..budget import Budget
from ..decoding import Decoding
from ..door.owners import COOKIE, Owners
from ..door.quota import Quota
from ..door.sign_ins import SignIns
from ..door.tokens import Tokens
from ..edits.edit import Edits
from ..edits.jobs import Jobs
from ..edits.previews import Previews
from ..edits.triton import Triton
from ..metrics import Metrics
from ..sessions.store import SessionStore
from ..settings import Settings
from ..shared_folder import SharedFolder
from ..socketio.rooms import Rooms
from ..socketio.signed_in import SignedInSockets
from ..stopping import Stopping
from ..wire.turnstile import Turnstile


@dataclass
class Gateway:
    """The parts of one gateway."""

    settings: Settings
    client: AsyncMelodyFlowClient
    owners: Owners
    tokens: Tokens
    sign_ins: SignIns
    quota: Quota
    wrong_tokens: Quota
    stopping: Stopping
    sessions: SessionStore
    metrics: Metrics
    triton: Triton
    decoding: Decoding
    budget: Budget
    edits: Edits
    previews: Previews
    jobs: Jobs
    rooms: Rooms
    sockets: SignedInSockets
    shared: SharedFolder | None
    turnstile: Turnstile = field(default_factory=Turnstile)
    started: float = field(default_factory=time.monotonic)


def gateway_of(request: Request) -> Gateway:
    return cast(Gateway, request.app.state.gateway)


async def _shared(request: Request) -> Gateway:
    return gateway_of(request)  # FastAPI would call a plain function in a thread


_bearer = HTTPBearer(auto_error=False, description="One of the gateway's tokens.")
_cookie = APIKeyCookie(
    name=COOKIE, auto_error=False, description="Set by the login page, for browsers."
)


async def owner_of(
    request: Request,
    _: Annotated[object, Security(_bearer)],
    __: Annotated[object, Security(_cookie)],
) -> str:
    """The owner of a request; the unused parameters are for the OpenAPI document."""
    return await gateway_of(request).owners.of(request.scope)


Shared = Annotated[Gateway, Depends(_shared)]
Owner = Annotated[str, Depends(owner_of)]
