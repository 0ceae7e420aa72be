"""Imports point one way: gateway to SDK to contract, and the server to the contract."""

import ast
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


def test_the_contract_needs_the_standard_library_alone() -> None:
    assert imported(ROOT / "contract") <= sys.stdlib_module_names
