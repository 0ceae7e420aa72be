"""The pinned requirements: each has its hashes, they agree with each other and the packages, and
whatever installs them insists on the hashes."""

import os
import re
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
DEVELOPMENT, GATEWAY, TRITON, TORCH, EMBEDDED = (
    f"requirements{of}" for of in ("", "-gateway", "-triton", "-torch", "-embedded")
)
FILES = (
    *(DEVELOPMENT, GATEWAY, TRITON, TORCH, EMBEDDED),
    "training/requirements",
    "tests/deploy/requirements",
    "examples/gary/back_end/requirements",
)
OWN = {"melodyflow-client", "melodyflow-gateway"}
# numpy 1 for the embedded Triton's Python stub, numpy 2 for the image's.
DIFFERENT = {(TRITON, "numpy")}

files = pytest.mark.parametrize("file", FILES)


def lines(path: Path) -> list[str]:
    text = path.read_text().replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def pins(file: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Name -> version and hashes."""
    made = {}
    for line in lines(ROOT / f"{file}.txt"):
        pin, *hashes = line.split()
        name, _, version = pin.partition("==")
        made[name] = (version, frozenset(hashes))
    return made


def asked(file: str) -> list[Requirement]:
    """What a source asks for, with the sources that it includes."""
    found = []
    for line in lines(ROOT / f"{file}.in"):
        if line.startswith("-r "):
            found += asked(line[3:].removesuffix(".in"))
        else:
            found.append(Requirement(line.partition(" #")[0]))
    return found


def dependencies(package: str, *extras: str) -> list[Requirement]:
    """What one of our packages asks for, but our own."""
    project = tomllib.loads((ROOT / package / "pyproject.toml").read_text())["project"]
    texts = list(project["dependencies"])
    for extra in extras:
        texts += project["optional-dependencies"][extra]
    found = [Requirement(text) for text in texts]
    return [need for need in found if need.name not in OWN]


def unmet(needs: list[Requirement], pinned: dict[str, tuple[str, frozenset[str]]]) -> list[str]:
    return [
        str(need)
        for need in needs
        if canonicalize_name(need.name) not in pinned
        or not need.specifier.contains(pinned[canonicalize_name(need.name)][0])
    ]


def test_these_are_all_of_them() -> None:
    found = {
        str(path.relative_to(ROOT).with_suffix(""))
        for folder in (".", "training", "examples", "client", "gateway", "deploy", "tests")
        for path in (ROOT / folder).glob(
            "requirements*.*" if folder == "." else "**/requirements*.*"
        )
        if path.suffix in (".in", ".txt") and "node_modules" not in path.parts
    }
    assert found == set(FILES)


@files
def test_every_requirement_is_pinned_with_its_hashes(file: str) -> None:
    written = lines(ROOT / f"{file}.txt")
    assert written
    for line in written:
        pin, *hashes = line.split()
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][\w.]*", pin), pin
        assert hashes, pin
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", each) for each in hashes), pin
    assert len(pins(file)) == len(written)


@files
def test_every_source_is_pinned(file: str) -> None:
    assert unmet(asked(file), pins(file)) == []


def test_what_two_files_pin_they_pin_alike() -> None:
    tested = pins(DEVELOPMENT)
    for file in FILES[1:]:
        for name, pin in pins(file).items():
            if name in tested:
                assert (pin == tested[name]) != ((file, name) in DIFFERENT), (file, name)
    image, torch = pins(TRITON), pins(TORCH)
    for name in image.keys() & torch.keys():
        assert image[name] == torch[name], name
    assert pins(GATEWAY).items() <= tested.items()
    assert image.keys() - {"numpy"} <= tested.keys()


def test_the_packages_get_what_they_ask_for() -> None:
    server = dependencies(".", "weights", "tracing")
    clients = [*dependencies("client", "av"), *dependencies("gateway")]
    torch = {"torch": pins(TORCH)["torch"]}
    tested = pins(DEVELOPMENT) | torch
    assert unmet([*server, *clients, *dependencies("client", "compare")], tested) == []
    assert unmet(clients, pins(GATEWAY)) == []
    assert "torch" not in pins(GATEWAY)
    assert unmet(server, pins(TRITON) | torch) == []


@pytest.mark.parametrize(
    ("file", "pythons"),
    [(DEVELOPMENT, ("3.11", "3.12")), (GATEWAY, ("3.12",)), (TRITON, ("3.12",))],
)
def test_what_the_requirements_need_is_pinned_too(file: str, pythons: tuple[str, ...]) -> None:
    """Else pip would refuse them all."""
    pinned = pins(file)
    for name in pinned:
        try:
            needs = [Requirement(text) for text in distribution(name).requires or []]
        except PackageNotFoundError:
            if os.environ.get("CI"):
                raise
            pytest.skip(f"{name} is not installed: . scripts/env installs what is pinned")
        for need in needs:
            if (file, canonicalize_name(need.name)) in DIFFERENT or not wanted(need, pythons):
                continue
            assert unmet([need], pinned) == [], name


def wanted(need: Requirement, pythons: tuple[str, ...]) -> bool:
    """Whether it is needed on any machine with one of these versions of Python."""
    variables = (
        {"python_version": python, "python_full_version": f"{python}.0"}
        | {"platform_machine": machine, "sys_platform": "linux", "extra": ""}
        for python in pythons
        for machine in ("x86_64", "aarch64")
    )
    return need.marker is None or any(need.marker.evaluate(where) for where in variables)


def test_torch_has_one_version() -> None:
    script = (ROOT / "scripts/env").read_text()
    [version] = re.findall(r"^TORCH=(.+)$", script, re.MULTILINE)
    assert pins(TORCH)["torch"][0] == version
    assert "torch" not in pins(DEVELOPMENT)
    assert f"torch=={version}" in (ROOT / "Dockerfile.triton").read_text()


def test_cudas_libraries_are_pinned() -> None:
    assert {"cuda-bindings", "cuda-pathfinder", "nvidia-nvjitlink", "triton"} <= pins(TORCH).keys()


@pytest.mark.parametrize(
    "path",
    [
        "scripts/env",
        "training/environment",
        "tests/deploy/environment",
        "Dockerfile.gateway",
        "Dockerfile.triton",
        "examples/gary/back_end/Dockerfile",
    ],
)
def test_what_is_installed_is_compared_with_its_hashes(path: str) -> None:
    text = (ROOT / path).read_text().replace("\\\n", " ")
    installs = re.findall(r"install [^&\n\"]*(?:-r|--requirement)[ =][^&\n]*", text)
    assert installs
    for install in installs:
        assert "--require-hashes" in install, install
    assert path != "Dockerfile.triton" or '="--require-hashes --requirement' in text
