"""Some hundreds of inputs of scripts/fuzz."""

import os

from melodyflow.embedded import EmbeddedServer

from .conftest import Running, until
from .fuzz import Fuzzer

INPUTS = 600


def test_what_is_nearly_right_is_answered(gateway: Running, server: EmbeddedServer) -> None:
    host, _, port = server.http_url.removeprefix("http://").partition(":")
    fuzzer = Fuzzer(("127.0.0.1", gateway.port), (host, int(port)), server.grpc_url)
    count, descriptors = len(gateway.said), f"/proc/{gateway.process.pid}/fd"
    fuzzer.run([f"test {number}" for number in range(INPUTS // 4)])
    before = len(os.listdir(descriptors))
    fuzzer.run([f"test {number}" for number in range(INPUTS // 4, INPUTS)])
    assert not fuzzer.wrong
    assert {"http 200", "http 400", "packets 200", "packets 400", "frames 101"} < set(fuzzer.heard)
    assert {"triton 200", "triton 400"} < set(fuzzer.heard)
    assert {"grpc OK", "grpc INVALID_ARGUMENT"} < set(fuzzer.heard)
    assert not [line for line in gateway.said[count:] if "raceback" in line]
    assert until(lambda: len(os.listdir(descriptors)) <= before + 2)
