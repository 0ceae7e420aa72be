"""The gateway's settings, from environment variables MELODYFLOW_GATEWAY_<NAME>."""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from melodyflow_client.addresses import SERVER_VARIABLE, is_loopback
from melodyflow_client.errors import InvalidRequest, shown
from melodyflow_client.presets import PRESETS_VARIABLE

PREFIX = "MELODYFLOW_GATEWAY_"

# Names that others share, so that one variable is enough for command, gateway and Redis.
SHARED_VARIABLES = {
    "server": SERVER_VARIABLE,
    "presets": PRESETS_VARIABLE,
    "redis_url": "REDIS_URL",
}

# A token travels in a header; 16 characters of base64 are 96 bits.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{16,512}")
_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:]+")
_APP_ORIGIN = re.compile(r"(?!https?:)[a-z][a-z0-9+.-]*://")  # file://, capacitor://
_REDIS = ("redis://", "rediss://", "unix://")

_SHOWN = 80  # characters of a name that is looked for

# What pydantic says of these types doesn't name what is allowed.
_EXPECTED = {
    "bool_parsing": "expected true or false",
    "int_parsing": "expected a whole number",
    "float_parsing": "expected a number",
}


def _split(value: object) -> object:
    """Words between commas or white space."""
    return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value


def _plain_host(name: str) -> str:
    if not _HOST.fullmatch(name.lower()):
        raise ValueError("expected names or addresses without scheme, port or *")
    return name.lower()


def _plain_origin(origin: str) -> str:
    """Browsers name pages of apps by other schemes, and pages without an address `null`."""
    if origin == "null" or _APP_ORIGIN.fullmatch(origin):
        return origin
    parts = urlsplit(origin)
    plain = f"{parts.scheme}://{parts.netloc}" == origin and "*" not in origin
    if not (plain and parts.netloc):
        raise ValueError(
            "expected scheme://host[:port] without a path or *, null, or the scheme:// of an app"
        )
    return origin


def _plain_folder(folder: str) -> str:
    if not folder:
        return folder
    if not os.path.isabs(folder) or os.path.normpath(folder) == "/":
        raise ValueError("expected the absolute path of a folder other than /")
    if not os.path.isdir(folder):
        raise ValueError("there is no such folder")
    return os.path.normpath(folder)


_Words = BeforeValidator(_split)
_Count = Annotated[int, Field(ge=1)]
_Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Hosts = Annotated[tuple[Annotated[str, AfterValidator(_plain_host)], ...], NoDecode, _Words]
_Origins = Annotated[tuple[Annotated[str, AfterValidator(_plain_origin)], ...], NoDecode, _Words]


class Settings(BaseSettings):
    """Settings of one gateway."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        populate_by_name=True,
    )

    host: str = "127.0.0.1"  # address to listen on
    port: Annotated[int, Field(ge=0, le=65535)] = 8002  # 0: a free one
    # Triton's gRPC endpoint, host:port; "": 127.0.0.1:8001
    server: str = Field("", validation_alias=SHARED_VARIABLES["server"])
    metrics: str = ""  # Triton's metrics, URL or host:port; "": beside the gRPC endpoint
    # a file of variations that adds to the shipped ones
    presets: str = Field("", validation_alias=SHARED_VARIABLES["presets"])
    # sessions and events in Redis, for several gateways; "": in this process
    redis_url: str = Field("", validation_alias=SHARED_VARIABLES["redis_url"])
    gary_events: bool = False  # write progress to Redis as the gary tool chain's back ends read it
    tokens: Annotated[tuple[str, ...], NoDecode, _Words] = ()  # accepted bearer tokens
    tokens_file: str = ""  # more of them, one per line; # begins a comment
    allow_no_token: bool = False  # listen on other addresses than loopback without a token
    hosts: _Hosts = ()  # names other than loopback's that a request's Host may have
    # origins of other sites and apps that may use the gateway (CORS)
    origins: _Origins = ()
    # the folder whose files POST /transform may name in audio_file_path; "": none
    shared_folder: Annotated[str, AfterValidator(_plain_folder)] = ""
    # of the accepted tokens, those that may
    shared_tokens: Annotated[tuple[str, ...], NoDecode, _Words] = ()
    # how such a JSON request is answered: JSON, or the file itself
    shared_answer: Literal["json", "file"] = "json"
    connections: _Count = 512  # open at once
    connections_by_address: _Count = 256  # of one address, or one /64 network of IPv6
    head_seconds: _Seconds = 10.0  # for a request's line and headers to arrive
    # the slowest a body, or a client that reads, may be, over ten seconds
    bytes_per_second: Annotated[int, Field(ge=0)] = 4096
    max_body_bytes: _Count = 64 * 2**20  # of a request's body and of a Socket.IO message
    memory_bytes: Annotated[int, Field(ge=2**26)] = 2**31  # for clips on their way, all owners
    max_seconds: Annotated[float, Field(gt=0)] = math.inf  # of a clip; inf: the server's limit
    edit_seconds: _Seconds = 600.0  # longest time for one edit, including its wait in the queue
    # /health says "warming" for so long after the start, or after Triton was last ready
    warming_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 300.0
    # for edits in flight to end in, once the gateway is told to stop
    drain_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 180.0
    poll_seconds: _Seconds = 900.0  # an edit of the VST's is cancelled so long after its last poll
    edits_per_minute: _Count = 120  # per token
    concurrent_edits: _Count = 32  # per token
    # of Triton's slots, those that one owner may hold; 0: three quarters
    owner_slots: Annotated[int, Field(ge=0)] = 0
    sessions: _Count = 1000  # sessions kept in this process
    session_bytes: _Count = 512 * 2**20  # their audio
    session_seconds: _Seconds = 3600.0  # a session is forgotten so long after its last use
    log_level: Literal["debug", "info", "warning", "error"] = "info"  # debug logs prompts

    @field_validator("redis_url")
    @classmethod
    def _is_redis(cls, url: str) -> str:
        if url and not url.startswith(_REDIS):
            raise ValueError(f"expected a URL that starts with {', '.join(_REDIS)}")
        return url

    @model_validator(mode="after")
    def _is_safe(self) -> Self:
        if not (self.accepted_tokens or self.loopback or self.allow_no_token):
            raise ValueError(
                f"host: others can reach {self.host}, and no token is required; set "
                f"{PREFIX}TOKENS or {PREFIX}TOKENS_FILE, or allow it with "
                f"{PREFIX}ALLOW_NO_TOKEN=true"
            )
        return self

    @model_validator(mode="after")
    def _has_a_redis_for_events(self) -> Self:
        if self.gary_events and not self.redis_url:
            raise ValueError(f"{PREFIX}GARY_EVENTS: there is no Redis to write to; set REDIS_URL")
        return self

    @model_validator(mode="after")
    def _shares_with_somebody(self) -> Self:
        if not set(self.shared_tokens) <= set(self.accepted_tokens):
            raise ValueError(
                f"{PREFIX}SHARED_TOKENS: not all of them are accepted; add them to {PREFIX}TOKENS "
                f"or {PREFIX}TOKENS_FILE"
            )
        if self.shared_folder and self.accepted_tokens and not self.shared_tokens:
            raise ValueError(
                f"{PREFIX}SHARED_FOLDER: no token may use it; name those that may in "
                f"{PREFIX}SHARED_TOKENS"
            )
        return self

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the gateway."""
        return is_loopback(f"[{self.host}]" if ":" in self.host else self.host)

    @property
    def allowed_hosts(self) -> tuple[str, ...]:
        """Names of `hosts`, and the address it listens on where that is one."""
        own = () if self.host in ("0.0.0.0", "::", "") else (self.host.lower(),)
        return self.hosts + own

    @cached_property
    def accepted_tokens(self) -> tuple[str, ...]:
        """All tokens. Raises ValueError for one that can't be used, without showing it."""
        tokens = list(self.tokens)
        if self.tokens_file:
            try:
                lines = Path(self.tokens_file).read_text(encoding="utf-8").splitlines()
            except (OSError, ValueError) as error:
                raise ValueError(f"{PREFIX}TOKENS_FILE: {self.tokens_file}: {error}") from None
            tokens += [line.strip() for line in lines if line.strip() and line.strip()[0] != "#"]
            if not tokens:
                raise ValueError(f"{PREFIX}TOKENS_FILE: {self.tokens_file} has no token in it")
        for number, token in enumerate(tokens, 1):
            if not _TOKEN.fullmatch(token):
                raise ValueError(
                    f"{PREFIX}TOKENS: token {number} can't be used; expected 16 to 512 "
                    "characters of A-Z, a-z, 0-9 and ._~+/=-"
                )
        return tuple(tokens)


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return SHARED_VARIABLES.get(name, PREFIX + name.upper())


def read_settings(options: Mapping[str, Any]) -> Settings:
    """Settings from the environment, overridden by `options` (None: not given).

    An empty value counts as none. Raises InvalidRequest for a wrong value or an unknown name.
    """
    _refuse_unknown(os.environ)
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        raise InvalidRequest(_first(error, given)) from None


def _refuse_unknown(environment: Iterable[str]) -> None:
    names = list(Settings.model_fields)
    known = [variable(name) for name in names]
    for given in sorted(environment):
        if given.upper().startswith(PREFIX) and given not in known:
            rest = given[len(PREFIX) :].lower()
            nearest = difflib.get_close_matches(rest[:_SHOWN], names, n=1)
            hint = (
                f"did you mean {variable(nearest[0])}?"
                if nearest
                else f"known are {', '.join(known)}"
            )
            raise InvalidRequest(f"{given}: no such setting; {hint}")


def _first(error: ValidationError, given: Mapping[str, Any]) -> str:
    """The first thing that is wrong: where it was set, the value, what is allowed."""
    flaw = error.errors(include_url=False)[0]
    said = _EXPECTED.get(flaw["type"], flaw["msg"].removeprefix("Value error, "))
    if not flaw["loc"]:
        return said
    place = str(flaw["loc"][0])
    name = next((n for n, shared in SHARED_VARIABLES.items() if place in (n, shared)), place)
    where = f"--{name}" if name in given else variable(name)
    value = "" if name == "redis_url" else f"{shown(flaw['input'])}; "  # it may have a password
    return f"{where}: {value}{said[:1].lower()}{said[1:]}"
