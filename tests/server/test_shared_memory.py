"""A /dev/shm that is too small for a result, as Docker's 64 MB can be: an error, and no silence."""

import re
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from . import raw
from .conftest import read_metrics
from .test_serve import command, serving

# A mount namespace of its own: nobody else's /dev/shm gets any smaller.
SMALL = ["unshare", "--mount", "sh", "-c"]
MOUNT = "mount -t tmpfs -o size=8m tmpfs /dev/shm"
FITS = {"prompt": "a harp", "steps": 2, "duration": 1.0, "format": "wav32f", "encoding": "base64"}
DOES_NOT_FIT = {**FITS, "duration": 30.0}  # 11 MB


@pytest.fixture(scope="module")
def needs_a_namespace() -> None:
    if subprocess.run([*SMALL, MOUNT], capture_output=True).returncode:
        pytest.skip("needs the right to mount, in a mount namespace of its own")


@pytest.mark.usefixtures("needs_a_namespace")
def test_a_result_that_does_not_fit_is_an_error(checkpoint: Path) -> None:
    with serving([*SMALL, f'{MOUNT} && exec "$@"', "sh", *command(checkpoint)]) as (process, said):
        urls = dict(re.findall(r"(gRPC|HTTP|metrics) +(?:http://)?([^\s/]+)", said))
        server: Any = SimpleNamespace(grpc_url=urls["gRPC"], http_url=urls["HTTP"])
        for send in (raw.over_grpc, raw.over_generate_stream, raw.over_generate):
            with pytest.raises(raw.Refused, match="the result could not be sent") as caught:
                send(server, DOES_NOT_FIT)
            assert caught.value.code == "INTERNAL"
            # The room that it found is free again.
            assert send(server, FITS)[-1].outputs["stage"] == b"done"
        ended = {
            outcome: read_metrics(urls["metrics"])[f'melodyflow_edits_total{{outcome="{outcome}"}}']
            for outcome in ("done", "failed")
        }
        assert ended == {"done": 3, "failed": 3}
        process.terminate()
        process.wait(raw.PATIENCE)
