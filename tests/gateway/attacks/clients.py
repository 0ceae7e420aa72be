"""What all attackers share: their own addresses, and what they hear."""

from __future__ import annotations

import base64
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from .files import wav

MIB = 2**20

Heard = Counter[str]
# Of a gateway's URL and an address of its own: prepares, is then sent the time.time() until which
# it goes on, and returns what it heard.
Attack = Callable[[str, str], Generator[None, float, Heard]]


class _From(HTTPAdapter):
    """Requests from an address of one's own."""

    def __init__(self, address: str) -> None:
        self._address = address
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **named: Any) -> None:
        super().init_poolmanager(*arguments, **named, source_address=(self._address, 0))


def session_from(address: str) -> requests.Session:
    made = requests.Session()
    made.trust_env = False
    made.mount("http://", _From(address))
    return made


def post(url: str, address: str, until: float, path: str, bodies: Sequence[bytes]) -> Heard:
    """The same bodies again and again, from several threads."""
    heard: Heard = Counter()
    lock = threading.Lock()

    def work(body: bytes) -> None:
        client = session_from(address)
        while time.time() < until:
            try:
                answer = client.post(
                    url + path,
                    data=body,
                    headers={"Content-Type": "application/json"},
                    timeout=until + 60 - time.time(),
                )
                said = str(answer.status_code)
                if answer.status_code in (429, 503):
                    time.sleep(0.5)
            except requests.RequestException as error:
                said = type(error).__name__
            with lock:
                heard[said] += 1

    threads = [threading.Thread(target=work, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return heard


def edit_with_a_result(client: requests.Session, url: str, name: str) -> None:
    """A session with a result of 12 s."""
    body = {"audio_data": base64.b64encode(wav(12)).decode(), "variation": "celtic", "steps": 1}
    begun = client.post(f"{url}/api/juce/transform_audio", json={**body, "session_id": name})
    begun.raise_for_status()
    poll = f"{url}/api/juce/poll_status/{name}"
    while (said := client.get(poll).json())["status"] != "completed":
        if said["status"] == "failed":
            raise RuntimeError(said["error"])
        time.sleep(0.2)
