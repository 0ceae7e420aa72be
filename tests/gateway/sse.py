"""Server-sent events as a browser reads them."""

import json
from collections.abc import Iterator
from typing import Any

import requests

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
