"""Server-sent events as a browser reads them."""

import json
from collections.abc import Iterator
from typing import Any

import requests

from .conftest import Running, base64_of, wav

Event = tuple[str, dict[str, Any]]


def events(response: requests.Response) -> Iterator[Event]:
    """Name and data of each event, as they come; comments are left out."""
    name = data = ""
    for line in response.iter_lines(chunk_size=None):
        text = line.decode()
        if text.startswith("event: "):
            name = text[7:]
        elif text.startswith("data: "):
            data = text[6:]
        elif not text and name:
            yield name, json.loads(data)
            name = data = ""


def midpoint(gateway: Running) -> object:
    """The audio, in base64, of an edit whose solver is another than its variation's."""
    body = {"audio": base64_of(wav(0.3)), "variation": "celtic", "solver": "midpoint", "seed": 5}
    with gateway.post("/transform/stream", json=body, stream=True) as answer:
        result = list(events(answer))[-1][1]
    parameters = result["info"]["parameters"]
    assert (parameters["solver"], parameters["steps"]) == ("midpoint", 64)
    return result["audio"]
