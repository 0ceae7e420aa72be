"""The gateway's settings: what they are read from, what they refuse, and what the docs say."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from melodyflow_client import InvalidRequest
from melodyflow_gateway.metrics import APIS, CONNECTION_REASONS, OUTCOMES, REASONS, Metrics
from melodyflow_gateway.settings import PREFIX, Settings, read_settings, variable

from .test_docs import rows, section

GUIDE = (Path(__file__).resolve().parents[2] / "docs/gateway.md").read_text()
TOKEN = "x" * 16


Read = Callable[..., Settings]


@pytest.fixture(autouse=True)
def no_settings_of_the_tests_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("MELODYFLOW") or name == "REDIS_URL":
            monkeypatch.delenv(name)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Read:
    """Reads settings from variables, given without their prefix."""

    def read(**variables: str) -> Settings:
        for name, value in variables.items():
            monkeypatch.setenv(PREFIX + name, value)
        return read_settings({})

    return read


def test_the_environment_is_read_and_an_option_overrides_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    environment = {
        PREFIX + "PORT": "9000",
        PREFIX + "MAX_SECONDS": "30",
        PREFIX + "ALLOW_NO_TOKEN": "True",
        PREFIX + "LOG_LEVEL": "",
        "MELODYFLOW_SERVER": "studio:8001",
        "REDIS_URL": "redis://cache",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = read_settings({"port": 1, "host": None})
    assert (settings.port, settings.max_seconds) == (1, 30.0)
    assert (settings.server, settings.redis_url) == ("studio:8001", "redis://cache")
    assert (settings.allow_no_token, settings.log_level) == (True, "info")
    assert settings.host == "127.0.0.1"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "65536"),
        ("PORT", "x"),
        ("MAX_SECONDS", "nan"),
        ("MAX_SECONDS", "0"),
        ("EDIT_SECONDS", "inf"),
        ("CONCURRENT_EDITS", "0"),
        ("ALLOW_NO_TOKEN", "perhaps"),
        ("LOG_LEVEL", "loud"),
        ("ORIGINS", "*"),
        ("ORIGINS", "https://*.example"),
        ("ORIGINS", "studio.example"),
        ("ORIGINS", "https://studio.example/"),
        ("ORIGINS", "https://"),
        ("ORIGINS", "http://"),
        ("ORIGINS", "capacitor://localhost/"),
        ("ORIGINS", "capacitor://*"),
        ("ORIGINS", "file:///home"),
        ("ORIGINS", "://"),
        ("ORIGINS", "nul"),
        ("SHARED_FOLDER", "relative"),
        ("SHARED_FOLDER", "/"),
        ("SHARED_FOLDER", "/tmp/../"),
        ("SHARED_FOLDER", "/nowhere/at/all"),
        ("SHARED_FOLDER", "/dev/null"),
        ("SHARED_ANSWER", "wav"),
        ("POLL_SECONDS", "0"),
        ("POLL_SECONDS", "inf"),
        ("HOSTS", "*"),
        ("HOSTS", "http://studio"),
        ("HOSTS", "studio:8002"),
        ("TOKENS_FILE", "/nowhere/at/all"),
        ("TOKEN", TOKEN),
    ],
)
def test_a_wrong_value_is_named(read: Read, name: str, value: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^{PREFIX}{name}: "):
        read(**{name: value})


def test_a_wrong_value_of_an_option_is_named_after_it(read: Read) -> None:
    with pytest.raises(InvalidRequest, match=r"^--port: 70000; .*65535$"):
        read_settings({"port": 70000})


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("TOKEN", PREFIX + "TOKENS"),
        ("BODY_BYTES", PREFIX + "MAX_BODY_BYTES"),
        ("SERVER", "MELODYFLOW_SERVER"),
    ],
)
def test_an_unknown_name_is_refused_with_what_was_meant(read: Read, name: str, meant: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"^{PREFIX}{name}: .*did you mean {meant}\?$"):
        read(**{name: "x"})
    with pytest.raises(InvalidRequest, match=f"known are .*{PREFIX}HOST, "):
        read(AAA="x")


def test_redis_has_its_schemes_and_its_password_is_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REDIS_URL", "http://:secret@cache")
    with pytest.raises(InvalidRequest, match=r"^REDIS_URL: .*rediss://") as refused:
        read_settings({})
    assert "secret" not in str(refused.value)


def test_tokens_come_from_both_places(read: Read, tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"# of the studio\n{TOKEN}1\n\n  {TOKEN}2  \n")
    settings = read(TOKENS=f"{TOKEN}3, {TOKEN}4\n{TOKEN}5", TOKENS_FILE=str(file))
    assert {token[-1] for token in settings.accepted_tokens} == set("12345")


@pytest.mark.parametrize(
    "token", ["short", "x" * 513, "with;semicolon-------", "ümlaut-----------"]
)
def test_a_token_that_cannot_be_used_is_refused_and_not_shown(read: Read, token: str) -> None:
    with pytest.raises(InvalidRequest, match="token 1 ") as refused:
        read(TOKENS=token)
    assert token not in str(refused.value)


def test_an_empty_file_of_tokens_does_not_open_the_gateway(read: Read, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("# none yet\n")
    with pytest.raises(InvalidRequest, match="has no token"):
        read(TOKENS_FILE=str(tmp_path / "tokens"))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "studio"])
def test_others_are_let_in_with_a_token_or_when_told_so(
    read: Read, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    with pytest.raises(InvalidRequest, match="no token is required"):
        read(HOST=host)
    assert not read(HOST=host, TOKENS=TOKEN).loopback
    monkeypatch.delenv(PREFIX + "TOKENS")
    assert not read(HOST=host, ALLOW_NO_TOKEN="true").loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_loopback_needs_none(read: Read, host: str) -> None:
    assert read(HOST=host).loopback


def test_origins_of_apps_and_of_pages_without_an_address(read: Read) -> None:
    named = "null, file:// capacitor:// capacitor://localhost https://studio.example:8443"
    assert len(read(ORIGINS=named).origins) == 5


def test_a_shared_folder_is_shared_with_tokens_that_are_named(read: Read, tmp_path: Path) -> None:
    folder = f"{tmp_path}/"
    assert read(SHARED_FOLDER=folder).shared_folder == str(tmp_path)
    with pytest.raises(InvalidRequest, match=r"^MELODYFLOW_GATEWAY_SHARED_FOLDER: no token may"):
        read(SHARED_FOLDER=folder, TOKENS=f"{TOKEN}1 {TOKEN}2")
    assert read(SHARED_FOLDER=folder, SHARED_TOKENS=f"{TOKEN}2").shared_tokens == (f"{TOKEN}2",)
    with pytest.raises(InvalidRequest, match=r"^MELODYFLOW_GATEWAY_SHARED_TOKENS: ") as refused:
        read(SHARED_FOLDER=folder, SHARED_TOKENS=f"{TOKEN}2 {TOKEN}3")
    assert TOKEN not in str(refused.value)


def test_the_address_it_listens_on_is_one_of_its_names(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read(HOST="192.168.1.5", TOKENS=TOKEN, HOSTS="Studio").allowed_hosts == (
        "studio",
        "192.168.1.5",
    )
    monkeypatch.delenv(PREFIX + "HOSTS")
    assert read(HOST="0.0.0.0", TOKENS=TOKEN).allowed_hosts == ()


def test_the_guide_has_every_setting_with_its_default() -> None:
    written = {row[0]: (row[1], row[2]) for row in rows(section(GUIDE, "Settings"))}
    fields = Settings.model_fields
    assert list(written) == list(fields)
    for name, (environment, default) in written.items():
        assert environment == variable(name)
        actual = fields[name].default
        if actual in ("", ()):
            assert default.startswith("(")
        else:
            assert default == (str(actual).lower() if isinstance(actual, bool) else str(actual))


def test_the_guide_has_every_metric_with_its_labels() -> None:
    made = {}
    for family in Metrics().registry.collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        made[name] = family.type
    table = rows(section(GUIDE, "Metrics"))
    assert {row[0].partition("{")[0]: row[1] for row in table} == made
    meanings = {row[0].partition("{")[0]: row[2] for row in table}
    edits = set(re.findall(r"`(\w+)`", meanings["melodyflow_gateway_edits_total"]))
    assert edits == {*APIS, *OUTCOMES}
    refused = set(re.findall(r"`(\w+)`", meanings["melodyflow_gateway_refused_total"]))
    assert refused == {*REASONS.values(), *CONNECTION_REASONS}


def test_events_for_gary_need_a_redis(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidRequest, match=rf"^{PREFIX}GARY_EVENTS: .*set REDIS_URL$"):
        read(GARY_EVENTS="true")
    monkeypatch.setenv("REDIS_URL", "redis://redis:6379")
    assert read(GARY_EVENTS="true").gary_events
