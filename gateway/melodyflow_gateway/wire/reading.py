"""Reads requests: JSON or a multipart form, with the audio as bytes."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from melodyflow_client.contract import exclusion

from ..budget import Share
from ..decoding import Decoding
from ..problems import Problem
from ..text import SHOWN, short, utf8
from .base64_audio import decode_audio
from .body import joined, read_body
from .lifting import MOST_OTHER_BYTES, PLACEHOLDER, lift
from .requests import PATH, EditFields, FileAlone

_FORM = "multipart/form-data"
_FILE = "audio"  # of a form
_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")  # RFC 2046

_TRACEPARENT = re.compile("[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")  # W3C Trace Context

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Asked:
    """An edit as a client asked for it; audio: the file's bytes as they came, and only here. Or
    text-to-music: no audio, and a duration in seconds. share: the memory that it takes.

    audio is also None as long as the request only says where it is (audio_is_elsewhere).
    """

    fields: EditFields
    audio: bytes | None
    share: Share
    duration: float | None = None
    traceparent: str = ""  # the client's W3C trace context, if it has sent one

    @property
    def parameters(self) -> dict[str, str]:
        """What Triton is told beside the edit: whose it is, and under which trace."""
        own = {"owner": self.share.owner}
        return own | {"traceparent": self.traceparent} if self.traceparent else own


class _InMemory(MultiPartParser):
    """A form whose only file is `audio`: another name is refused when it is seen, not after it."""

    spool_max_size = 2**62  # audio is never written to disk; the body's limit bounds it

    def on_headers_finished(self) -> None:
        utf8("multipart form: Content-Disposition", self._current_part.content_disposition or b"")
        super().on_headers_finished()
        name = self._current_part.field_name
        if self._current_part.file is None:
            return
        if name != _FILE:
            raise Problem(400, f"{name[:SHOWN]}: the form's file must be called {_FILE!r}")
        if self._current_files > 1:
            raise Problem(400, f"{_FILE}: given twice")

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        part = self._current_part
        if part.file is None and part.field_name == _FILE and data[start:end].strip():
            raise Problem(400, f"{_FILE}: is text; expected a file part of this name")
        super().on_part_data(data, start, end)

    def on_part_end(self) -> None:
        utf8(self._current_part.field_name[:SHOWN], self._current_part.data)
        super().on_part_end()


async def read_edit(
    request: Request,
    decoding: Decoding,
    model: type[EditFields],
    form: type[EditFields] | None,
    *,
    audio: str = "audio",
) -> tuple[Asked, bool]:
    """The edit in a request's body, and whether it came as a form. Raises Problem.

    model: of a JSON body, whose audio is called `audio`. form: of a form's fields, its file is
    always `audio`; None: no form is taken.
    """
    kind = _kind(request)
    if kind == _FORM and form is not None:
        fields, file = await _read_form(request, form)
        return _traced(_asked(fields, file, share_of(request)), request), True
    if kind not in ("application/json", ""):
        allowed = "application/json" + (f" or {_FORM}" if form else "")
        raise Problem(415, f"Content-Type: {_short(kind)}; {allowed}")
    share = share_of(request)
    # Not request.body(), which would keep it as long as the request, and so the edit, goes on.
    look = partial(lift, name=audio, whole=False)
    body = await read_body(request.stream(), decoding, share.owner, look)
    size = sum(map(len, body))
    asked = await decoding.run(lambda: parse_edit(joined(body), model, audio, share), share.owner)
    share.give_back(size)
    return _traced(asked, request), False


def _traced(asked: Asked, request: Request) -> Asked:
    given = request.headers.get("traceparent", "")
    return replace(asked, traceparent=given) if _TRACEPARENT.fullmatch(given) else asked


async def read_file(request: Request) -> bytes:
    """The file of a form that has nothing else. Raises Problem."""
    kind = _kind(request)
    if kind != _FORM:
        raise Problem(415, f"Content-Type: {_short(kind)}; {_FORM}")
    _, file = await _read_form(request, FileAlone)
    if file is None:
        raise Problem(400, f"{_FILE}: is missing; send a clip")
    return file


async def read_fields(request: Request, model: type[Model]) -> Model:
    """A body of a few JSON fields. Raises Problem."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_OTHER_BYTES:
            raise Problem(
                413, f"body: too large; at most {MOST_OTHER_BYTES} bytes are allowed here"
            )
    return parse(lift(body, "").rest, model)


def share_of(request: Request) -> Share:
    """What the request's body was taken from."""
    share: Share = request.state.share
    return share


def parse_edit(
    body: bytes | bytearray | dict[str, Any], model: type[EditFields], audio: str, share: Share
) -> Asked:
    """An edit from JSON, or from what JSON became, whose audio is still base64. Raises Problem."""
    text: bytes | memoryview | None = None
    if isinstance(body, dict):
        text = body.get(audio)
        if isinstance(text, str) and not text.strip():  # blank counts as left out
            text = None
        if text is not None and not isinstance(text, bytes | memoryview):
            raise Problem(400, f"{audio}: {_short(text)}; expected an audio file in base64")
        body = {**body, **({} if text is None else {audio: PLACEHOLDER.decode()})}
    else:
        lifted = lift(body, audio)
        body, text = lifted.rest, lifted.audio
    parsed = parse(body, model)
    if text is None:
        return _asked(parsed, None, share)
    size = len(text) // 4 * 3 + 3
    share.take(2 * size)  # once as it grows, and once as bytes
    decoded = bytes(decode_audio(audio, text))
    share.give_back(2 * size - len(decoded))
    return _asked(parsed, decoded, share)


def parse(body: bytes | dict[str, Any], model: type[Model]) -> Model:
    """JSON, or what it became, as a model. Raises Problem, whose text begins with the field."""
    try:
        if isinstance(body, bytes):
            return model.model_validate_json(body)
        return model.model_validate(body)
    except ValidationError as error:
        raise Problem(400, _first(error, model)) from None


def _asked(fields: EditFields, audio: bytes | None, share: Share) -> Asked:
    duration: float | None = getattr(fields, "duration", None)
    if audio is None and duration is None and not fields.audio_is_elsewhere:
        raise Problem(400, fields.without_audio)
    path = getattr(fields, PATH, None)
    if path is not None and audio is not None:
        raise Problem(400, f"{PATH}: comes with audio; give one of the two")
    refused = exclusion({"audio": path if audio is None else audio, "duration": duration})
    if refused is not None:
        raise Problem(400, f"{refused.name}: {refused.because}")
    return Asked(fields, audio, share, duration)


def _kind(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _read_form(request: Request, model: type[Model]) -> tuple[Model, bytes | None]:
    """A form's fields, and its file if there is one. Raises Problem."""
    share = share_of(request)
    headers = _boundary_alone(request.headers.get("content-type", ""))
    parser = _InMemory(headers, request.stream(), max_fields=32, max_part_size=2**16)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise Problem(400, f"multipart form: {error.message}") from None
    try:
        upload = form.get(_FILE)
        if not isinstance(upload, UploadFile):  # blank text counts as left out
            upload = None
        size = 0 if upload is None else upload.size or 0
        share.take(size)  # what is read is a copy
        file = None if upload is None else await upload.read()
    finally:
        await form.close()
    share.give_back(size)
    if file == b"":
        raise Problem(400, f"{_FILE}: is empty")
    fields = parse({name: value for name, value in form.items() if name != _FILE}, model)
    return fields, file


def _boundary_alone(content_type: str) -> Headers:
    """A form's Content-Type without its charset: forms are UTF-8, and Python remembers every name
    that it looks for an encoding of. Raises Problem."""
    boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
    if not _BOUNDARY.fullmatch(boundary):
        raise Problem(400, f"Content-Type: boundary {short(boundary)}; expected 1 to 70 characters")
    return Headers({"content-type": f'multipart/form-data; boundary="{boundary.decode()}"'})


def _first(error: ValidationError, model: type[BaseModel]) -> str:
    """The first error, as "field: value; what is allowed"."""
    flaw = error.errors(include_url=False)[0]
    name = str(flaw["loc"][0]) if flaw["loc"] else ""
    if flaw["type"] == "json_invalid":
        return f"body: not JSON: {flaw['msg'].partition(': ')[2]}"
    if flaw["type"] == "missing":
        return f"{name}: is missing"
    if flaw["type"] == "extra_forbidden":
        nearest = difflib.get_close_matches(name[:SHOWN], model.model_fields, n=1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        return f"{name[:SHOWN]}: no such field{hint}"
    said = flaw["msg"].removeprefix("Value error, ")
    if not name:
        return said if flaw["type"] == "value_error" else "body: expected a JSON object"
    return f"{name}: {_short(flaw['input'])}; {said[:1].lower()}{said[1:]}"


def _short(value: object) -> str:
    if isinstance(value, str):
        return short(value)
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    return repr(value)[:SHOWN]
