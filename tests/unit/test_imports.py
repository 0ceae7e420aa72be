"""Imports point one way: gateway to command to SDK to contract, and the server to the contract."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = {"contract", "melodyflow", "melodyflow_client", "melodyflow_gateway", "training"}


def imported(package: Path) -> set[str]:
    """The top-level names that a package imports, also inside functions."""
    names: set[str] = set()
    for file in package.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        ("contract", set()),
        ("melodyflow", {"melodyflow"}),
        ("model_repository", {"melodyflow"}),
        ("client/melodyflow_client", {"melodyflow_client"}),
        ("gateway/melodyflow_gateway", {"melodyflow_gateway", "melodyflow_client"}),
    ],
)
def test_imports_point_one_way(package: str, allowed: set[str]) -> None:
    names = imported(ROOT / package)
    assert names
    assert names & OURS <= allowed


def test_the_sdk_never_imports_its_command() -> None:
    package = ROOT / "client/melodyflow_client"
    files = {*package.rglob("*.py")} - {*(package / "cli").rglob("*.py"), package / "__main__.py"}
    assert package / "client.py" in files
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                names = {node.module or "", *(alias.name for alias in node.names)}
                assert not any(name.partition(".")[0] == "cli" for name in names), file
    code = "import sys, melodyflow_client; print('melodyflow_client.cli' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_contract_needs_the_standard_library_alone() -> None:
    assert imported(ROOT / "contract") <= sys.stdlib_module_names


LAYERS = ("problems", "door", "sessions", "wire", "edits", "socketio", "routes", "app", "command")


def test_the_gateways_parts_use_those_before_them_alone() -> None:
    package = ROOT / "gateway/melodyflow_gateway"
    found = {path.stem for path in package.iterdir() if path.stem in LAYERS}
    assert found == set(LAYERS)
    for file in package.rglob("*.py"):
        path = file.relative_to(package).with_suffix("").parts
        if path[0] not in LAYERS:
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == len(path):
                for name in [node.module] if node.module else [a.name for a in node.names]:
                    used = name.partition(".")[0]
                    if used in LAYERS:
                        assert LAYERS.index(used) < LAYERS.index(path[0]), f"{file}: {used}"
