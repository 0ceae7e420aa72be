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
        expect(page.get_by_role("alert")).to_contain_text("not a token of this gateway")
        assert ["401" in text for text in complaints] == [True]
        complaints.clear()
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Open").click()
        load(page, tone)
        make(page)
        assert page.evaluate("document.cookie") == ""
        page.reload()
        expect(page.locator(".variation").first).to_be_visible()


def test_a_server_that_is_away_is_said(
    visit: Visit, tone: Path, complaints: list[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    with started_gateway(f"127.0.0.1:{port}") as address:
        page = visit(address=address)
        expect(page.locator("#server")).to_have_text("The music server is not ready yet.")
        load(page, tone)
        page.click("#make")
        expect(page.locator(".take .failed .error")).not_to_be_empty()
        expect(page.get_by_role("button", name="Try again")).to_be_visible()
    assert all("503" in text for text in complaints)
    complaints.clear()
