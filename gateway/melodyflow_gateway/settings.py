"""The gateway's settings, from environment variables MELODYFLOW_GATEWAY_<NAME>."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from melodyflow_client.addresses import SERVER_VARIABLE, is_loopback
from melodyflow_client.errors import InvalidRequest
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
_REDIS = ("redis://", "rediss://", "unix://")
_LOG_LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True)
class Settings:
    """Settings of one gateway."""

    host: str = "127.0.0.1"  # address to listen on
    port: int = 8002
    server: str = ""  # Triton's gRPC endpoint, host:port; "": 127.0.0.1:8001
    metrics: str = ""  # Triton's metrics, URL or host:port; "": beside the gRPC endpoint
    presets: str = ""  # a file of variations over the shipped ones
    redis_url: str = ""  # sessions and events in Redis, for several gateways; "": in memory
    tokens: str = ""  # accepted bearer tokens, between commas or white space
    tokens_file: str = ""  # more of them, one a line; # begins a comment
    allow_no_token: bool = False  # listen on other addresses than loopback without a token
    hosts: str = ""  # names beside loopback's that a request's Host may have
    origins: str = ""  # origins of other sites that may use the gateway (CORS)
    connections: int = 512  # open at once
    connections_by_address: int = 256  # of one address, or one /64 network of IPv6
    head_seconds: float = 10.0  # for a request's line and headers to come
    bytes_per_second: int = 4096  # a body and a reader may be no slower, over ten seconds
    max_body_bytes: int = 64 * 2**20  # of a request's body and of a Socket.IO message
    max_seconds: float = math.inf  # of a clip, once decoded; inf: the server's limit alone
    edit_seconds: float = 600.0  # longest time for one edit, its wait in the queue included
    edits_per_minute: int = 120  # of one token
    concurrent_edits: int = 32  # of one token
    sessions: int = 1000  # sessions kept in memory
    session_bytes: int = 512 * 2**20  # audio of those
    session_seconds: float = 3600.0  # after its last use a session is forgotten
    log_level: str = "info"  # debug shows prompts

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise InvalidRequest(f"port: {self.port}; 0 to 65535")
        for name in (
            "connections",
            "connections_by_address",
            "max_body_bytes",
            "edits_per_minute",
            "concurrent_edits",
            "sessions",
            "session_bytes",
        ):
            if getattr(self, name) < 1:
                raise InvalidRequest(f"{name}: {getattr(self, name)}; at least 1")
        if not self.max_seconds > 0:
            raise InvalidRequest(f"max_seconds: {self.max_seconds}; a number above 0")
        for name in ("head_seconds", "edit_seconds", "session_seconds"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InvalidRequest(f"{name}: {getattr(self, name)}; a number above 0")
        if self.log_level not in _LOG_LEVELS:
            raise InvalidRequest(f"log_level: {self.log_level!r}; {', '.join(_LOG_LEVELS)}")
        if self.redis_url and not self.redis_url.startswith(_REDIS):
            raise InvalidRequest(f"REDIS_URL: one of {', '.join(_REDIS)} is expected")
        for origin in self.allowed_origins:
            parts = urlsplit(origin)
            plain = f"{parts.scheme}://{parts.netloc}" == origin and "*" not in origin
            if not (plain and parts.scheme in ("http", "https") and parts.netloc):
                raise InvalidRequest(
                    f"origins: {origin!r}; scheme://host[:port] and no path or star is expected"
                )
        for name in self.allowed_hosts:
            if not re.fullmatch(r"[a-z0-9._-]+|[0-9a-f:]+", name):
                raise InvalidRequest(
                    f"hosts: {name!r}; names or addresses without scheme, port or star"
                )
        if not (self.accepted_tokens or self.loopback or self.allow_no_token):
            raise InvalidRequest(
                f"host: {self.host} can be reached by others, and no token is asked of them; set "
                f"{PREFIX}TOKENS or {PREFIX}TOKENS_FILE, or allow it with {PREFIX}ALLOW_NO_TOKEN"
            )

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the gateway."""
        return is_loopback(f"[{self.host}]" if ":" in self.host else self.host)

    @property
    def allowed_hosts(self) -> tuple[str, ...]:
        """Names of `hosts`, and the address it listens on where that is one."""
        own = () if self.host in ("0.0.0.0", "::", "") else (self.host.lower(),)
        return tuple(name.lower() for name in _words(self.hosts)) + own

    @property
    def allowed_origins(self) -> tuple[str, ...]:
        return tuple(_words(self.origins))

    @property
    def accepted_tokens(self) -> tuple[str, ...]:
        """All tokens; InvalidRequest for one that cannot be used, which is not shown."""
        tokens = _words(self.tokens)
        if self.tokens_file:
            try:
                lines = Path(self.tokens_file).read_text(encoding="utf-8").splitlines()
            except (OSError, ValueError) as error:
                raise InvalidRequest(f"tokens_file: {self.tokens_file}: {error}") from None
            tokens += [line.strip() for line in lines if line.strip() and line.strip()[0] != "#"]
            if not tokens:
                raise InvalidRequest(f"tokens_file: {self.tokens_file} holds no token")
        for number, token in enumerate(tokens, 1):
            if not _TOKEN.fullmatch(token):
                raise InvalidRequest(
                    f"tokens: number {number} cannot be used; a token is 16 to 512 characters of "
                    "A-Z, a-z, 0-9 and ._~+/=-"
                )
        return tuple(tokens)


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return SHARED_VARIABLES.get(name, PREFIX + name.upper())


def read_settings(environment: Mapping[str, str], given: Mapping[str, Any]) -> Settings:
    """Settings from the environment, and over them those `given` (None: not given).

    An empty value is no value. Raises InvalidRequest for a wrong value or an unknown name.
    """
    fields = {field.name: field for field in dataclasses.fields(Settings)}
    known = {variable(name) for name in fields}
    for name in sorted(environment):
        if name.startswith(PREFIX) and name not in known:
            raise InvalidRequest(f"{name}: no such setting; there are {', '.join(sorted(known))}")
    values = {
        name: _parse(name, environment[variable(name)], type(field.default))
        for name, field in fields.items()
        if environment.get(variable(name))
    }
    values |= {name: value for name, value in given.items() if value is not None}
    return Settings(**values)


def _parse(name: str, text: str, kind: type) -> Any:
    if kind is bool:
        if text.lower() not in ("true", "false", "1", "0"):
            raise InvalidRequest(f"{variable(name)}: {text!r}; true or false")
        return text.lower() in ("true", "1")
    try:
        return kind(text)
    except ValueError:
        wanted = "a whole number" if kind is int else "a number"
        raise InvalidRequest(f"{variable(name)}: {text!r}; {wanted}") from None


def _words(text: str) -> list[str]:
    return text.replace(",", " ").split()
