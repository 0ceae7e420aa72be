"""What stands between the page and the model: a token, and a server that is not there."""

import socket
from pathlib import Path

from playwright.sync_api import expect

from melodyflow.embedded import EmbeddedServer

from .actions import load, make
from .conftest import Visit, started_gateway

TOKEN = "a-token-for-the-studio"


def test_a_token_is_asked_for_once(
    visit: Visit, server: EmbeddedServer, tone: Path, complaints: list[str]
) -> None:
    with started_gateway(server.grpc_url, MELODYFLOW_GATEWAY_TOKENS=TOKEN) as address:
        page = visit(address=address)
        assert page.url == f"{address}login"
        page.get_by_label("Token").fill("not-the-token-of-it")
        page.get_by_role("button", name="Open").click()
        expect(page.get_by_role("alert")).to_contain_text("Invalid token")
        assert ["401" in text for text in complaints] == [True]
        complaints.clear()
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Open").click()
        load(page, tone)
        make(page)
        assert page.evaluate("document.cookie") == ""
        page.reload()
        expect(page.locator(".variation").first).to_be_visible()


def test_the_first_take_names_the_checkpoint_where_the_gateway_cannot(
    visit: Visit, server: EmbeddedServer, tone: Path
) -> None:
    with started_gateway(server.grpc_url, "--metrics", "127.0.0.1:9") as address:  # nobody there
        page = visit(address=address)
        expect(page.locator("#server")).to_have_text("Ready.")
        load(page, tone)
        make(page)
        expect(page.locator("#server")).to_have_text("tiny · unknown licence")


def test_a_server_that_is_away_is_reported(visit: Visit, tone: Path, complaints: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    with started_gateway(f"127.0.0.1:{port}") as address:
        page = visit(address=address)
        expect(page.locator("#server")).to_have_text("The music server isn't ready yet.")
        load(page, tone)
        page.click("#make")
        expect(page.locator(".take .failed .error")).not_to_be_empty()
        expect(page.get_by_role("button", name="Try again")).to_be_visible()
        page.close()  # it would go on asking after the server
    assert all("503" in text for text in complaints)
    complaints.clear()


def test_the_page_has_the_limits_of_the_server(visit: Visit, checkpoint: Path, tone: Path) -> None:
    limits = {"MIN_SECONDS": "0.05", "MAX_SECONDS": "700", "MAX_PROMPT_CHARACTERS": "1200"}
    settings = {"DEVICE": "cpu", "PRECISION": "fp32", **limits}
    ports = {"http_port": 0, "grpc_port": 0, "metrics_port": 0}
    with (
        EmbeddedServer(checkpoint, settings=settings, exit_timeout=20, **ports) as other,
        started_gateway(other.grpc_url, "--metrics", other.metrics_url) as address,
    ):
        page = visit(address=address)
        page.get_by_role("button", name="Your own words").click()
        page.get_by_label("In your own words").fill("harp " * 220)
        assert len(page.input_value("#prompt")) == 1100
        page.get_by_label("Seconds of music").fill("701")
        page.click("#make")
        expect(page.locator("#duration-error")).to_have_text(
            "Enter a number of seconds from 0.05 to 700."
        )
        load(page, tone)
        page.fill("#start", "0.4")
        page.fill("#end", "0.47")
        make(page)
        page.fill("#end", "0.44")
        page.click("#make")
        expect(page.locator("#start-error")).to_contain_text("at least 0.05 s long")
