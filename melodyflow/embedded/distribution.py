"""Finds the tritonserver in the nvidia-pytriton wheel."""

import ctypes
import importlib.metadata
import importlib.util
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from melodyflow.errors import EmbeddedError

PYTHONS = ((3, 11), (3, 12))


@dataclass(frozen=True)
class Distribution:
    """The wheel's binary, libraries, Python backend, and the stub for this Python."""

    binary: Path
    libraries: Path
    backend: Path
    stub: Path
    python_library: Path | None  # folder of libpython; None: the loader finds it


def find_distribution() -> Distribution:
    """Raises EmbeddedError if the wheel, a suitable Python, libpython or numpy 1 is missing."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if sys.version_info[:2] not in PYTHONS:
        raise EmbeddedError(
            f"Python {version}: the embedded Triton needs 3.11 or 3.12; set PYTHON to one of "
            "them and run the script again, or use the Docker image"
        )
    # Only located: importing the wheel's Python package would need its dependencies.
    package = importlib.util.find_spec("pytriton")
    folders = package.submodule_search_locations if package else None
    if not folders:
        raise EmbeddedError(
            "no embedded Triton: pip install --no-deps nvidia-pytriton==0.7.0 (scripts/env does), "
            "or use the Docker image"
        )
    home = Path(folders[0])
    server = home / "tritonserver"
    found = Distribution(
        binary=server / "bin" / "tritonserver",
        libraries=home.parent / "nvidia_pytriton.libs",
        backend=server / "backends" / "python",
        stub=server / "python_backend_stubs" / version / "triton_python_backend_stub",
        python_library=_python_library(version),
    )
    for path in (found.binary, found.libraries, found.backend, found.stub):
        if not path.exists():
            raise EmbeddedError(
                f"{path}: missing; pip install --force-reinstall --no-deps nvidia-pytriton==0.7.0"
            )
    numpy = importlib.metadata.version("numpy")
    if int(numpy.split(".")[0]) >= 2:
        raise EmbeddedError(
            f"numpy {numpy}: the embedded Triton's Python stub needs numpy 1: "
            "pip install 'numpy==1.26.4' (scripts/env does)"
        )
    return found


def _python_library(version: str) -> Path | None:
    name = f"libpython{version}.so.1.0"
    folder = Path(sysconfig.get_config_var("LIBDIR") or "/usr/lib")
    for candidate in (folder, folder / str(sysconfig.get_config_var("MULTIARCH"))):
        if (candidate / name).exists():
            return candidate
    try:
        ctypes.CDLL(name)
    except OSError:
        raise EmbeddedError(
            f"{name} not found; the embedded Triton needs Python as a shared library: apt-get "
            f"install libpython{version} (Debian, Ubuntu), or use a Python built with "
            "--enable-shared"
        ) from None
    return None
