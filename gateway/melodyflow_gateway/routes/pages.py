"""What a browser sees: the page, and the page that asks for a token."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, FastAPI, Request
from starlette.datastructures import Headers
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.staticfiles import PathLike, StaticFiles
from starlette.types import Scope

from ..door.owners import COOKIE
from ..door.sign_ins import MOST_SECONDS
from ..listening.connections import network
from ..problems import Problem
from .dependencies import Shared, gateway_of

# A link to the folder beside the package: wheels have a copy.
WEB = Path(__file__).parents[1] / "web"
# Modules of two versions must not meet in a browser's cache: it asks whether it has the newest.
_FRESH = {"Cache-Control": "no-cache"}

# Everything comes from the gateway itself; results play from blobs. Nothing is evaluated or framed.
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; media-src blob:; worker-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
PAGE_HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(self)",
    # With no-referrer a browser sends the token's form with "Origin: null", which is refused.
    "Referrer-Policy": "same-origin",
}

_MAX_FORM = 4096

_TOKEN_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>MelodyFlow: token</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/static/style/token.css">
</head>
<body>
<main>
<h1>MelodyFlow</h1>
<form method="post" action="/login">
<label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<p role="alert">{alert}</p>
<button>Open</button>
</form>
<p>Ask the operator of this gateway for it. It is kept in a cookie that scripts can't read.</p>
</main>
</body>
</html>
"""

router = APIRouter(include_in_schema=False)


class _Files(StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> Response:
        answer = await super().get_response(path, scope)
        answer.headers.update(_FRESH)
        return answer

    def file_response(
        self, full_path: PathLike, stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        answer = super().file_response(full_path, stat_result, scope, status_code)
        if answer.status_code != 200 or scope["method"] != "GET" or "range" in Headers(scope=scope):
            return answer
        # They are small, and the page asks for forty: each step of a FileResponse takes a thread.
        kept = {name: answer.headers[name] for name in ("etag", "last-modified")}
        return Response(Path(full_path).read_bytes(), 200, kept, answer.media_type)


def mount(api: FastAPI) -> None:
    """Serves the page's styles and modules, and nothing else of its folder."""
    for folder in ("style", "src"):
        api.mount(f"/static/{folder}", _Files(directory=WEB / folder))


async def _known(request: Request) -> bool:
    try:
        await gateway_of(request).owners.of(request.scope)
    except Problem as problem:
        if problem.status != 401:
            raise
        return False
    return True


Known = Annotated[bool, Depends(_known)]


@functools.cache
def _modules() -> str:
    """Tells the browser of all modules at once: it would find each only in the one before."""
    modules = sorted((WEB / "src").rglob("*.js"))
    names = [module.relative_to(WEB).as_posix() for module in modules]
    return ", ".join(f"<static/{name}>; rel=modulepreload" for name in names)


@router.get("/")
async def page(known: Known) -> Response:
    if not known:
        return RedirectResponse("/login", 303)
    index = WEB / "index.html"
    if not index.is_file():
        raise Problem(404, "the page is not installed")
    return FileResponse(index, headers={**PAGE_HEADERS, **_FRESH, "Link": _modules()})


@router.get("/login")
async def token_page(known: Known) -> Response:
    return RedirectResponse("/", 303) if known else _ask_for_token()


@router.post("/login")
async def take_token(request: Request, gateway: Shared) -> Response:
    value = await gateway.owners.sign_in(await _token_of(request))
    if value is None:
        gateway.wrong_tokens.count(network(request.client.host) if request.client else "")
        gateway.metrics.count_refusal(401)
        return _ask_for_token("Invalid token.", 401)
    answer = RedirectResponse("/", 303)
    answer.set_cookie(
        COOKIE,
        value,
        max_age=MOST_SECONDS,
        httponly=True,
        samesite="strict",
        secure=_over_tls(request),
    )
    return answer


@router.post("/logout")
async def sign_out(request: Request, gateway: Shared) -> Response:
    await gateway.owners.sign_out(request.scope)
    await gateway.sockets.close_ended()
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=_over_tls(request))
    return answer


def _over_tls(request: Request) -> bool:
    """Whether the page came over TLS: a proxy in front may have ended it. Who lies here does it
    with a cookie of their own."""
    forwarded = request.headers.get("x-forwarded-proto", "")
    return "https" in (request.url.scheme, forwarded.strip().lower())


async def _token_of(request: Request) -> str:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_FORM:
            raise Problem(413, "the form is too large")
    return parse_qs(body.decode("ascii", "replace")).get("token", [""])[0].strip()


def _ask_for_token(alert: str = "", status: int = 200) -> Response:
    return HTMLResponse(_TOKEN_PAGE.format(alert=alert), status, PAGE_HEADERS)
