"""Files by their path: what lies in the shared folder is read, and nothing else, whatever happens
there meanwhile."""

import errno
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import Gauge

from melodyflow_gateway import shared_folder
from melodyflow_gateway.budget import Budget, Share
from melodyflow_gateway.problems import Problem
from melodyflow_gateway.shared_folder import SharedFolder

SOUND, SECRET = b"a sound" * 100, b"nobody's business"
MOST = 10_000


@pytest.fixture
def share() -> Share:
    return Budget(2**26, Gauge("bytes", "", registry=None)).share("owner")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder beside a secret, with a sound at its top and one further down."""
    (tmp_path / "secret.wav").write_bytes(SECRET)
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside/in.wav").write_bytes(SECRET)
    shared = tmp_path / "shared"
    (shared / "deep/er").mkdir(parents=True)
    for name in ("in.wav", "deep/er/in.wav", "ümläut 音.wav"):
        (shared / name).write_bytes(SOUND)
    return shared


@pytest.fixture
def shared(folder: Path) -> SharedFolder:
    return SharedFolder(str(folder), MOST, None)


def refusal(shared: SharedFolder, path: str, share: Share) -> Problem:
    with pytest.raises(Problem) as refused:
        shared.read(path, share)
    assert share.size == 0
    assert refused.value.message.startswith("audio_file_path: ")
    assert SECRET.decode() not in refused.value.message
    return refused.value


@pytest.mark.parametrize(
    "name", ["in.wav", "deep/er/in.wav", "./deep//er/./in.wav", "ümläut 音.wav"]
)
def test_a_file_inside_is_read_by_both_its_paths(
    shared: SharedFolder, folder: Path, share: Share, name: str
) -> None:
    assert shared.read(name, share) == SOUND
    assert shared.read(f"{folder}/{name}", share) == SOUND
    assert share.size == 2 * len(SOUND)


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "{outside}/secret.wav",
        "{outside}/shared.wav",
        "{outside}/sharedmore/in.wav",
        "{outside}",
        "/",
        "//",
        "/{inside}/in.wav",
        "../secret.wav",
        "..",
        "deep/../../secret.wav",
        "deep/../in.wav",
        "{inside}/../secret.wav",
        "{inside}/deep/../../secret.wav",
        "{outside}/beside/../shared/in.wav",
    ],
)
def test_a_path_that_leads_outside_is_refused_before_anything_is_opened(
    shared: SharedFolder,
    folder: Path,
    share: Share,
    path: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared_folder.os, "open", lambda *_, **__: pytest.fail("opened"))
    asked = path.format(outside=folder.parent, inside=folder)
    assert refusal(shared, asked, share).status == 400


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("in\0.wav", "NUL"),
        ("in.wav\0", "NUL"),
        ("x" * 300, "too long"),
        ("x/" * 3000, "too long"),
        ("\ud800.wav", "UTF-8"),
        (".", "is a folder"),
        ("{inside}", "is a folder"),
        ("{inside}/", "is a folder"),
        ("deep", "regular file"),
        ("nothing.wav", "doesn't exist"),
        ("nowhere/in.wav", "doesn't exist"),
        ("in.wav/in.wav", "isn't a folder"),
        (" in.wav", "doesn't exist"),
    ],
)
def test_what_names_no_file_is_refused(
    shared: SharedFolder, folder: Path, share: Share, path: str, why: str
) -> None:
    refused = refusal(shared, path.format(inside=folder), share)
    assert (refused.status, why in refused.message) == (400, True), refused.message
    assert len(refused.message) < 300


@pytest.mark.parametrize(
    "target", ["../secret.wav", "{outside}/secret.wav", "in.wav", "nothing", "link.wav"]
)
def test_a_link_is_not_followed(
    shared: SharedFolder, folder: Path, share: Share, target: str
) -> None:
    (folder / "link.wav").symlink_to(target.format(outside=folder.parent))
    assert "link" in refusal(shared, "link.wav", share).message


@pytest.mark.parametrize("target", ["../beside", "{outside}/beside", "deep/er", "nowhere", "."])
def test_a_link_on_the_way_is_not_followed(
    shared: SharedFolder, folder: Path, share: Share, target: str
) -> None:
    where = target.format(outside=folder.parent)
    (folder / "way").symlink_to(where)
    (folder / "deep/way").symlink_to(f"../{target}" if target.startswith(".") else where)
    for path in ("way/in.wav", "deep/way/in.wav", f"{folder}/way/in.wav"):
        assert "link" in refusal(shared, path, share).message


@pytest.fixture
def odd(folder: Path) -> Iterator[Path]:
    """A FIFO without a writer, one with a writer who says nothing, and a socket."""
    os.mkfifo(folder / "fifo")
    os.mkfifo(folder / "held")
    held = os.open(folder / "held", os.O_RDWR)
    listening = socket.socket(socket.AF_UNIX)
    before = Path.cwd()
    os.chdir(folder)  # a socket's path is short
    listening.bind("socket")
    os.chdir(before)
    yield folder
    os.close(held)
    listening.close()


@pytest.mark.parametrize("name", ["fifo", "held", "socket"])
def test_what_is_no_regular_file_is_refused_at_once(
    shared: SharedFolder, odd: Path, share: Share, name: str
) -> None:
    asked = threading.Thread(target=refusal, args=(shared, name, share), daemon=True)
    asked.start()
    asked.join(10)
    assert not asked.is_alive()
    assert "regular file" in refusal(shared, name, share).message


def test_a_device_is_refused(share: Share) -> None:
    devices = SharedFolder("/dev", MOST, None)
    for name in ("zero", "null", "full"):
        assert "regular file" in refusal(devices, name, share).message


def test_a_file_that_may_not_be_read_is_named(
    shared: SharedFolder, share: Share, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbid() -> None:  # chmod doesn't keep root from reading
        raise PermissionError(errno.EACCES, "Permission denied")

    swapped(monkeypatch, "in.wav", forbid)
    assert "may not be read" in refusal(shared, "in.wav", share).message


def test_a_file_may_have_so_many_bytes(shared: SharedFolder, folder: Path, share: Share) -> None:
    (folder / "most.wav").write_bytes(bytes(MOST))
    assert len(shared.read("most.wav", share)) == MOST
    share.release()
    with (folder / "sparse.wav").open("wb") as file:
        file.truncate(2**40)
    (folder / "more.wav").write_bytes(bytes(MOST + 1))
    for name in ("sparse.wav", "more.wav"):
        with pytest.raises(Problem, match=f"at most {MOST} are allowed") as refused:
            shared.read(name, share)
        assert refused.value.status == 413


def test_its_bytes_come_from_the_budget(folder: Path) -> None:
    taken = Budget(100, Gauge("bytes", "", registry=None)).share("owner")
    with pytest.raises(Problem) as refused:
        SharedFolder(str(folder), MOST, None).read("in.wav", taken)
    assert (refused.value.status, taken.size) == (503, 0)


def test_an_empty_file_is_an_empty_clip(shared: SharedFolder, folder: Path, share: Share) -> None:
    (folder / "empty.wav").touch()
    assert shared.read("empty.wav", share) == b""


@pytest.mark.parametrize("change", [b"", SOUND[:-1], SOUND + b"x", SOUND * 1000])
def test_a_file_that_changes_under_way_is_refused_and_bounded(
    shared: SharedFolder,
    folder: Path,
    share: Share,
    monkeypatch: pytest.MonkeyPatch,
    change: bytes,
) -> None:
    """It grows or shrinks between the look at its size and the reading."""
    look = os.fstat

    def then_changes(file: int) -> os.stat_result:
        found = look(file)
        (folder / "in.wav").write_bytes(change)
        return found

    monkeypatch.setattr(shared_folder.os, "fstat", then_changes)
    assert "changed" in refusal(shared, "in.wav", share).message


def test_a_file_that_grows_without_end_is_read_no_further_than_its_size(
    shared: SharedFolder, folder: Path, share: Share
) -> None:
    growing, over = folder / "grows.wav", threading.Event()
    growing.write_bytes(SOUND)

    def grow() -> None:
        with growing.open("ab", buffering=0) as file:
            while not over.is_set() and file.tell() < 2**22:
                file.write(b"x")

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        for _ in range(50):
            with suppress(Problem):
                assert len(shared.read("grows.wav", share)) <= MOST
                share.release()
    finally:
        over.set()
        writer.join()


def swapped(monkeypatch: pytest.MonkeyPatch, name: str, swap: object) -> None:
    """Has `swap` done right before `name` is opened."""
    plainly = os.open

    def opened(path: str, flags: int, **options: int) -> int:
        if path == name:
            swap()  # type: ignore[operator]
        return plainly(path, flags, **options)

    monkeypatch.setattr(shared_folder.os, "open", opened)


def test_a_file_swapped_for_a_link_right_before_it_is_opened(
    shared: SharedFolder, folder: Path, share: Share, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swap() -> None:
        (folder / "in.wav").unlink()
        (folder / "in.wav").symlink_to("../secret.wav")

    swapped(monkeypatch, "in.wav", swap)
    assert "link" in refusal(shared, "in.wav", share).message


def test_a_folder_swapped_for_a_link_while_it_is_walked(
    shared: SharedFolder, folder: Path, share: Share, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is open is the folder that was there, wherever it is by now."""

    def swap() -> None:
        (folder / "deep").rename(folder / "moved")
        (folder / "deep").symlink_to("../beside")

    swapped(monkeypatch, "er", swap)
    assert shared.read("deep/er/in.wav", share) == SOUND


def test_links_and_files_that_take_turns_never_give_the_secret(
    shared: SharedFolder, folder: Path, share: Share
) -> None:
    (folder / "link").symlink_to("../secret.wav")
    (folder / "way").symlink_to("../beside")
    (folder / "real").write_bytes(SOUND)
    over = threading.Event()

    def take_turns() -> None:
        number = 0
        while not over.is_set():
            number += 1
            for turn, name in (("link", "a.wav"), ("real", "a.wav")):
                os.link(folder / turn, folder / f"next{number}", follow_symlinks=False)
                os.replace(folder / f"next{number}", folder / name)

    turns = threading.Thread(target=take_turns)
    turns.start()
    try:
        seen = set()
        for _ in range(2000):
            try:
                seen.add(shared.read("a.wav", share))
            except Problem:
                seen.add(b"refused")
            share.release()
    finally:
        over.set()
        turns.join()
    assert seen <= {SOUND, b"refused"}
    assert SOUND in seen


def test_a_folder_that_is_gone_is_a_503(folder: Path, share: Share) -> None:
    with pytest.raises(Problem) as refused:
        SharedFolder(f"{folder}/gone", MOST, None).read("in.wav", share)
    assert refused.value.status == 503
    assert str(folder) not in refused.value.message


def test_nothing_stays_open(shared: SharedFolder, odd: Path, share: Share) -> None:
    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = open_files()
    for path in ("in.wav", "deep/er/in.wav", "deep", "fifo", "socket", "nowhere/x", "deep/x"):
        with suppress(Problem):
            shared.read(path, share)
    assert open_files() == before


NAMES = st.sampled_from(["..", ".", "", "deep", "er", "in.wav", "way", "link.wav", "\0", "ä" * 200])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(NAMES, max_size=6), st.sampled_from(["", "/", "{inside}/", "{outside}/"]))
def test_whatever_the_path_only_the_sounds_come_out(
    shared: SharedFolder, folder: Path, share: Share, names: list[str], start: str
) -> None:
    for link, target in (("way", "../beside"), ("link.wav", "../secret.wav")):
        if not (folder / link).is_symlink():
            (folder / link).symlink_to(target)
    path = start.format(inside=folder, outside=folder.parent) + "/".join(names)
    with suppress(Problem):
        assert shared.read(path, share) == SOUND
    share.release()
