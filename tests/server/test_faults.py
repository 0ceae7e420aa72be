"""Faults of the network, put in at its one seam in a real server: whom they end, and whom not."""

import json
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from melodyflow.embedded import MODEL_REPOSITORY, EmbeddedServer
from melodyflow.embedded.server import SHARED_MEMORY

from . import raw
from .conftest import read_metrics

SLOTS = 4
EXIT_TIMEOUT = 20
PENDING = 'nv_inference_pending_request_count{model="melodyflow",version="1"}'
# Latent frames of the clip that brings a fault along; no other clip here has as many.
FAULTS = {"nan": 13, "out of memory": 15, "error": 17, "death": 19, "crowded": 21}
RATE, HOP = 48000, 1920

# Seeds are given, so that these edits can be made again; nothing is cached by this server.
NEIGHBOURS: list[dict[str, Any]] = [
    {"audio": raw.file_of(raw.music(seconds), RATE), "format": "wav32f", "seed": seed, **more}
    for seed, (seconds, more) in enumerate(
        [
            (1.0, {"prompt": "a harp", "steps": 48, "regularize_iters": 6}),
            (3.0, {"prompt": "a choir", "steps": 48, "solver": "midpoint"}),
            (0.3, {"prompt": "drums", "steps": 48, "regularize_iters": 6, "keep_last_k_iters": 2}),
        ]
    )
]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faulty") / "triton.log"


def start(checkpoint: Path, folder: Path, log: Path) -> EmbeddedServer:
    """A server whose network fails on request; its contract is the real repository's."""
    repository = folder / "repository"
    shutil.copytree(Path(__file__).parent / "faulty_repository", repository)
    shutil.copy(MODEL_REPOSITORY / "melodyflow" / "config.pbtxt", repository / "melodyflow")
    server = EmbeddedServer(
        checkpoint,
        http_port=0,
        grpc_port=0,
        metrics_port=0,
        settings={
            "DEVICE": "cpu",
            "PRECISION": "fp32",
            "SLOTS": str(SLOTS),
            "CACHE_BYTES": "0",
            "FAULTS": json.dumps(FAULTS),
            "HOLD": str(log.parent / "hold"),
        },
        model_repository=repository,
        log=log,
        exit_timeout=EXIT_TIMEOUT,
    )
    server.start()
    return server


@pytest.fixture(scope="module")
def faulty(
    checkpoint: Path, log: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EmbeddedServer]:
    with start(checkpoint, tmp_path_factory.mktemp("faulty"), log) as server:
        yield server


@pytest.fixture(scope="module")
def undisturbed(faulty: EmbeddedServer) -> list[raw.Waveform]:
    """The neighbours' results without a fault, each alone."""
    return [raw.decoded(raw.transform(faulty, inputs)["audio"])[0] for inputs in NEIGHBOURS]


def bringing(fault: str, **changes: Any) -> dict[str, Any]:
    """An edit of a clip that brings a fault along."""
    clip = raw.file_of(raw.music(samples=FAULTS[fault] * HOP), RATE)
    return {"audio": clip, "prompt": "a fault", "steps": 3, **changes}


class Since:
    """What the server has counted and logged since a test began."""

    def __init__(self, server: EmbeddedServer, log: Path) -> None:
        self._server, self._log = server, log
        self._from = log.stat().st_size
        self._before = read_metrics(server.metrics_url)

    def ended(self, outcome: str) -> int:
        name = f'melodyflow_edits_total{{outcome="{outcome}"}}'
        return int(read_metrics(self._server.metrics_url)[name] - self._before[name])

    def at_rest(self) -> bool:
        now = read_metrics(self._server.metrics_url)
        return now["melodyflow_edits_in_flight"] == now["melodyflow_frames_in_flight"] == 0

    def logged(self) -> str:
        return self._log.read_bytes()[self._from :].decode()


@pytest.fixture
def since(faulty: EmbeddedServer, undisturbed: list[raw.Waveform], log: Path) -> Since:
    return Since(faulty, log)


@contextmanager
def held(log: Path) -> Iterator[None]:
    """The network waits; who has begun by its end is in flight together with all others."""
    hold = log.parent / "hold"
    hold.touch()
    try:
        yield
    finally:
        hold.unlink()


def begin(server: EmbeddedServer, inputs: dict[str, Any], stack: ExitStack) -> raw.Stream:
    """An edit that waits for a velocity."""
    stream = stack.enter_context(raw.Stream(server, inputs))
    wait_until_inverting(stream)
    return stream


def wait_until_inverting(stream: raw.Stream) -> None:
    while stream.next().outputs["stage"] != b"inverting":
        pass


def assert_same(streams: list[raw.Stream], expected: list[raw.Waveform]) -> None:
    """The results are those without a fault."""
    for stream, wanted in zip(streams, expected, strict=True):
        waveform = raw.decoded(list(stream)[-1].outputs["audio"])[0]
        assert np.abs(waveform - wanted).max() <= 1e-4 * np.abs(wanted).max()


@pytest.mark.parametrize(
    ("fault", "text", "logged"),
    [
        ("nan", "the edit's velocity is not finite; the edit was stopped", ""),
        ("out of memory", "OutOfMemoryError.*no memory for it", r"out of memory at \d+ tokens"),
        ("error", "RuntimeError.*a fault in the network", r"network call for [2-4] edits failed"),
    ],
    ids=["nan", "out of memory", "error"],
)
def test_the_edit_at_fault_ends_alone(
    faulty: EmbeddedServer,
    undisturbed: list[raw.Waveform],
    since: Since,
    log: Path,
    fault: str,
    text: str,
    logged: str,
) -> None:
    with ExitStack() as stack:
        with held(log):
            neighbours = [begin(faulty, inputs, stack) for inputs in NEIGHBOURS]
            victim = begin(faulty, bringing(fault), stack)
        with pytest.raises(raw.Refused, match=text) as caught:
            list(victim)
        assert caught.value.status == "INTERNAL"
        assert_same(neighbours, undisturbed)
    assert re.search(logged, since.logged())
    assert raw.eventually(since.at_rest)
    ends = re.findall(r"edit id=.*? (failed|done) after", since.logged())
    assert ends == ["failed"] + ["done"] * len(neighbours), "they were in flight together"
    assert since.ended("failed") == 1
    assert since.ended("done") == len(neighbours)


def test_out_of_memory_makes_calls_smaller_and_ends_nobody(
    faulty: EmbeddedServer, undisturbed: list[raw.Waveform], since: Since, log: Path
) -> None:
    with ExitStack() as stack:
        with held(log):
            neighbours = [begin(faulty, inputs, stack) for inputs in NEIGHBOURS]
            crowded = begin(faulty, bringing("crowded", steps=10), stack)
        assert list(crowded)[-1].outputs["stage"] == b"done"
        assert_same(neighbours, undisturbed)
    failures = len(re.findall(r"out of memory at \d+ tokens", since.logged()))
    assert 0 < failures < 10, "it was met, and not at every one of its 30 evaluations"
    assert raw.eventually(since.at_rest)
    assert since.ended("done") == len(neighbours) + 1
    assert since.ended("failed") == 0


@pytest.mark.ends_tritonserver
def test_when_the_loop_dies_everybody_is_told_and_the_server_ends(
    faulty: EmbeddedServer, since: Since, log: Path
) -> None:
    """The last one here: it ends the server of all these tests."""
    prefix = shared_memory_prefix(faulty.pid)
    processes = [faulty.pid, stub_of(faulty.pid)]
    assert list(SHARED_MEMORY.glob(f"{prefix}*"))
    with ExitStack() as stack:
        with held(log):
            told = [begin(faulty, long_edit(), stack)]
            leaving = [begin(faulty, long_edit(), stack) for _ in range(SLOTS - 1)]
            # All slots are taken: one of these waits in execute(), the others in Triton's queue.
            told += [stack.enter_context(raw.Stream(faulty, long_edit())) for _ in range(SLOTS)]
            assert raw.eventually(lambda: pending(faulty) == SLOTS - 1)
            # The fault overtakes all but two at the head: as many slots get free as it needs.
            fault = raw.Stream(faulty, bringing("death"), parameters={"priority": 1})
            told.append(stack.enter_context(fault))
            assert raw.eventually(lambda: pending(faulty) == SLOTS)
            for stream in leaving:
                stream.cancel()
        assert raw.eventually(lambda: since.ended("cancelled") == len(leaving))
        with held(log):
            wait_until_inverting(fault)
        for stream in told:
            with pytest.raises(raw.Refused, match="the server's step loop died") as caught:
                list(stream)
            assert caught.value.status == "INTERNAL"
    assert raw.eventually(lambda: ended(faulty), EXIT_TIMEOUT)
    assert raw.eventually(lambda: not any(map(runs, processes)))
    logged = since.logged()
    assert "the step loop died" in logged
    assert "Death: the loop is to die" in logged
    assert f"stopping tritonserver (process {processes[0]})" in logged
    assert len(re.findall("edit id=.* failed after .* step loop died", logged)) == len(told)
    faulty.stop()
    assert not list(SHARED_MEMORY.glob(f"{prefix}*"))


def pending(server: EmbeddedServer) -> int:
    """Requests in Triton's queue; the one in execute() is not counted."""
    return int(read_metrics(server.metrics_url)[PENDING])


def long_edit() -> dict[str, Any]:
    """Goes on for a minute; with a seed of its own, so that nothing of it is shared."""
    return {
        **NEIGHBOURS[0],
        "audio": raw.file_of(raw.music(20, 16000, 1), 16000),
        "steps": 128,
        "regularize_iters": 8,
        "seed": secrets.randbelow(2**31),
    }


def shared_memory_prefix(pid: int) -> str:
    """How the names of a server's files in shared memory begin."""
    found = re.search(
        rb"shm-region-prefix-name=([^\0]+)", Path(f"/proc/{pid}/cmdline").read_bytes()
    )
    assert found
    return found[1].decode()


def stub_of(pid: int) -> int:
    """The model's process, a child of the tritonserver."""
    (children,) = (p.read_text().split() for p in Path(f"/proc/{pid}/task").glob(f"{pid}/children"))
    (stub,) = children
    return int(stub)


def ended(server: EmbeddedServer) -> str | None:
    """How a tritonserver has ended by itself; None: it has not, though its model may have."""
    found = server.watch().look()
    return found if found and found.startswith("tritonserver has ended") else None


def runs(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
