"""Files are written whole or not at all, and what would fail is known beforehand."""

import errno
import os
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from melodyflow_client import saving
from melodyflow_client.saving import check_writable, write_file, write_new_file

DATA = os.urandom(300_000)  # more than a pipe holds


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """An empty folder in which nothing may be left but what the test names."""
    made = tmp_path / "folder"
    made.mkdir()
    yield made
    assert not [name for name in os.listdir(made) if name.endswith(".part")]


names = st.binary(min_size=1, max_size=255).filter(
    lambda name: not set(name) & {0, ord("/")} and name not in (b".", b"..")
)


@given(names)
@settings(deadline=None, max_examples=50)  # each writes to the disk twice
def test_every_name_that_a_folder_takes_is_written(
    tmp_path_factory: pytest.TempPathFactory, name: bytes
) -> None:
    folder = tmp_path_factory.mktemp("names")
    path = folder / os.fsdecode(name)
    for data in (b"first", b"second"):
        check_writable(path, 1000)
        assert path.exists() == (data == b"second")
        write_file(path, data)
        assert path.read_bytes() == data
    assert os.listdir(os.fsencode(folder)) == [name]


def test_a_new_file_has_the_permissions_of_any_new_file(folder: Path) -> None:
    before = os.umask(0o027)
    try:
        write_file(folder / "a", DATA)
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder / "a").stat().st_mode) == 0o640


def test_a_replaced_file_keeps_its_permissions_and_its_owner(folder: Path) -> None:
    path = folder / "a"
    path.write_bytes(b"old")
    path.chmod(0o604)
    if os.getuid() == 0:
        os.chown(path, 12, 34)
    before = path.stat()
    write_file(path, DATA)
    after = path.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (
        before.st_mode,
        before.st_uid,
        before.st_gid,
    )


def test_links_are_followed(folder: Path) -> None:
    (folder / "deep").mkdir()
    (folder / "link").symlink_to("deep/there")
    (folder / "to_link").symlink_to("link")
    for data in (b"new", b"newer"):  # the link leads nowhere at first
        check_writable(folder / "to_link")
        write_file(folder / "to_link", data)
        assert (folder / "deep" / "there").read_bytes() == data
    assert (folder / "link").is_symlink()
    assert (folder / "to_link").is_symlink()


def loop(folder: Path) -> Path:
    (folder / "loop").symlink_to("loop")
    return folder / "loop"


def under_a_file(folder: Path) -> Path:
    (folder / "file").touch()
    return folder / "file" / "x"


@pytest.mark.parametrize(
    ("where", "code"),
    [
        (lambda folder: folder, errno.EISDIR),
        (lambda folder: folder / "missing" / "x", errno.ENOENT),
        (lambda folder: folder / ("x" * 256), errno.ENAMETOOLONG),
        (under_a_file, errno.ENOTDIR),
        (loop, errno.ELOOP),
        (lambda folder: Path("/proc/x"), errno.ENOENT),
        (lambda folder: Path("/dev/full"), errno.ENOSPC),
    ],
)
def test_what_cannot_be_written_is_known_beforehand(
    folder: Path, where: Callable[[Path], Path], code: int
) -> None:
    path = where(folder)
    for attempt in (lambda: check_writable(path), lambda: write_file(path, DATA)):
        with pytest.raises(OSError) as caught:  # noqa: PT011 - the errno is checked
            attempt()
        assert caught.value.errno == code
        assert caught.value.filename == str(path)


def test_a_disk_that_is_too_small_is_known_beforehand(small_disk: Path) -> None:
    path = small_disk / "a"
    check_writable(path, 40_000)
    write_file(path, b"old")
    with pytest.raises(OSError, match="No space") as caught:
        check_writable(path, 70_000)
    assert caught.value.filename == str(path)
    with pytest.raises(OSError, match="No space"):
        write_file(path, DATA)
    assert path.read_bytes() == b"old"
    assert os.listdir(small_disk) == ["a"]


def test_a_folder_that_is_read_only(small_disk: Path) -> None:
    (small_disk / "a").write_bytes(b"old")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for name in ("a", "new"):
        with pytest.raises(OSError, match="Read-only") as caught:
            check_writable(small_disk / name)
        assert caught.value.errno == errno.EROFS


def test_a_file_that_is_a_mount_of_its_own_is_written_in_place(
    small_disk: Path, folder: Path
) -> None:
    (small_disk / "real").write_bytes(b"old")
    target = folder / "a"
    target.touch()
    subprocess.run(["mount", "--bind", str(small_disk / "real"), str(target)], check=True)
    try:
        check_writable(target, 1000)
        write_file(target, b"new")
        assert (small_disk / "real").read_bytes() == b"new"
    finally:
        subprocess.run(["umount", str(target)], check=True)


@pytest.mark.parametrize("kind", ["replaces", "new"])
def test_an_interrupted_write_leaves_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    path = folder / "a"
    if kind == "replaces":
        path.write_bytes(b"old")
    for name in ("write_all", "_flush"):
        with monkeypatch.context() as patched:
            patched.setattr(saving, name, interrupted)
            with pytest.raises(KeyboardInterrupt):
                write_file(path, DATA)
        assert os.listdir(folder) == (["a"] if kind == "replaces" else [])
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", interrupted)
        for write in (write_file, write_new_file):
            with pytest.raises(KeyboardInterrupt):
                write(path, DATA)
        assert os.listdir(folder) == (["a"] if kind == "replaces" else [])


def test_new_files_replace_none_however_many_are_written_at_once(folder: Path) -> None:
    written: list[Path] = []
    threads = [
        threading.Thread(
            target=lambda number: written.append(
                write_new_file(folder / "a.wav", bytes([number]) * 1000)
            ),
            args=(number,),
        )
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(written) == sorted(folder / name for name in os.listdir(folder))
    assert {path.read_bytes()[0] for path in written} == set(range(8))


def test_fifos_and_devices_are_written_to(folder: Path) -> None:
    path = folder / "fifo.wav"
    os.mkfifo(path)
    check_writable(path, 1000)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(path.read_bytes()))
    reader.start()
    write_file(path, DATA)
    reader.join()
    assert read == [DATA]
    assert stat.S_ISFIFO(path.stat().st_mode)
    check_writable("/dev/null", 10**15)
    write_file("/dev/null", DATA)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_pipe_by_its_number(folder: Path) -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)  # what it doesn't take at once is still written
    path = f"/dev/fd/{write}"
    found: list[bytes] = []

    def collect() -> None:
        with open(read, "rb") as stream:
            found.append(stream.read(len(DATA)))

    reader = threading.Thread(target=collect)
    reader.start()
    check_writable(path)
    write_file(path, DATA)
    reader.join()
    assert found == [DATA]
    for attempt in (lambda: check_writable(path), lambda: write_file(path, DATA)):
        with pytest.raises(BrokenPipeError):
            attempt()
    os.close(write)


def test_a_file_that_is_open_already_is_written_to_where_it_stands(folder: Path) -> None:
    path = folder / "a"
    path.write_bytes(b"before ")
    with open(path, "ab") as file:
        check_writable(f"/dev/fd/{file.fileno()}", 1000)
        write_file(f"/dev/fd/{file.fileno()}", b"sound")
        os.write(file.fileno(), b" after")
    assert path.read_bytes() == b"before sound after"
    with open(path, "rb") as file, pytest.raises(OSError, match="Bad file descriptor"):
        check_writable(f"/proc/self/fd/{file.fileno()}")


def test_a_file_that_only_grows_is_refused(folder: Path) -> None:
    path = folder / "a"
    path.write_bytes(b"old")
    done = subprocess.run(["chattr", "+a", str(path)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot set the attribute: {done.stderr.strip()}")
    try:
        with pytest.raises(PermissionError):
            check_writable(path)
    finally:
        subprocess.run(["chattr", "-a", str(path)], check=True)


def test_a_socket_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.chdir(folder)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
        with pytest.raises(OSError, match="a socket"):
            check_writable("socket")
