"""The page's own units, which run in Node, are among these tests."""

import subprocess
from pathlib import Path


def test_the_pages_units_pass(root: Path) -> None:
    done = subprocess.run([root / "scripts/web", "test"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fail 0" in done.stdout
