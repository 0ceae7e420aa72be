"""A file of each kind through the doors that scripts/files measures, but the SDK's own."""

import pytest

from melodyflow.embedded import EmbeddedServer

from ..files import doors
from ..files.cases import KINDS
from ..files.figures import faulty, measured
from .chromium import executable


def test_a_file_of_each_kind_is_right_at_every_door(server: EmbeddedServer, gateway: str) -> None:
    pytest.importorskip("av")
    if executable() is None:
        pytest.skip("no Chromium")
    cases = [(kind, next(make())) for kind, make in KINDS.items()]
    with doors.command(server.grpc_url) as command, doors.page(gateway) as page:
        opened = {
            "SDK": doors.sdk,
            "command": command,
            "gateway": doors.gateway(gateway.rstrip("/")),
            "page": page,
        }
        rows = [measured(kind, case, opened) for kind, case in cases]
    assert faulty(rows) == []
    assert all(set(opened) < set(row) for row in rows)
