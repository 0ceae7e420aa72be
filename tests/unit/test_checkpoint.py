"""Converting, checking and refusing checkpoints."""

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from melodyflow.errors import CheckpointError
from melodyflow.manifest import read_manifest
from melodyflow.model.checkpoint import CODEC, CONFIG, FLOW, load, open_checkpoint
from melodyflow.tools import convert as converting
from melodyflow.tools import make_checkpoint as making
from melodyflow.tools.convert import census, convert


@pytest.fixture
def copied(checkpoint: Path, tmp_path: Path) -> Path:
    """A converted checkpoint that a test may spoil."""
    return Path(shutil.copytree(checkpoint, tmp_path / "copied"))


def replace(folder: Path, name: str, value: torch.Tensor | None) -> None:
    """Changes, adds or drops a tensor of flow.safetensors, with its recorded size."""
    tensors = load_file(folder / FLOW)
    if value is None:
        del tensors[name]
    else:
        tensors[name] = value
    save_file(tensors, folder / FLOW)
    config = json.loads((folder / CONFIG).read_text())
    config["files"][FLOW]["bytes"] = (folder / FLOW).stat().st_size
    (folder / CONFIG).write_text(json.dumps(config))


def test_conversion_records_its_sources(checkpoint: Path, root: Path) -> None:
    config = json.loads((checkpoint / CONFIG).read_text())
    assert set(config["sources"]) == {
        "state_dict.bin",
        "compression_state_dict.bin",
        "t5/model.safetensors",
    }
    assert config["licence"] == "unknown"
    assert open_checkpoint(checkpoint, verify=True).name == "tiny"


def test_missing_extra_and_misshapen_tensors_are_named(copied: Path) -> None:
    replace(copied, "out_norm.bias", None)
    with pytest.raises(CheckpointError, match=r"out_norm\.bias is missing"):
        open_checkpoint(copied)
    replace(copied, "out_norm.bias", torch.zeros(64))
    replace(copied, "stranger", torch.zeros(1))
    with pytest.raises(CheckpointError, match="stranger is unknown"):
        open_checkpoint(copied)
    replace(copied, "stranger", None)
    replace(copied, "out_norm.bias", torch.zeros(65))
    with pytest.raises(CheckpointError, match=r"out_norm\.bias is \[65\] instead of \[64\]"):
        open_checkpoint(copied)


def test_sizes_are_checked_always_and_hashes_when_asked(copied: Path) -> None:
    data = bytearray((copied / CODEC).read_bytes())
    data[-1] ^= 1
    (copied / CODEC).write_bytes(data)
    open_checkpoint(copied)
    with pytest.raises(CheckpointError, match="sha256"):
        open_checkpoint(copied, verify=True)
    (copied / CODEC).write_bytes(data[:-1])
    with pytest.raises(CheckpointError, match="bytes, expected"):
        open_checkpoint(copied)


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_a_converted_file_is_for_whom_the_umask_says(
    root: Path, tmp_path: Path, umask: int
) -> None:
    source = root / "tests/data/parity"
    before = os.umask(umask)
    try:
        convert(source / "tiny", tmp_path / "made", t5=source / "t5")
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "made").rglob("*.*")}
    assert modes == {0o666 & ~umask}
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o777 & ~umask


def read_as_another(folder: Path, uid: int = 65534) -> str:
    """What a user who owns nothing is told of the checkpoint in a folder."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.chdir(folder.parent)  # the folders above it are the tests' own
            if os.geteuid() == 0:
                os.setuid(uid)
            read_manifest(folder.name)
            said = "read"
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(write, said.encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    with os.fdopen(read) as answer:
        return answer.read()


@pytest.mark.parametrize("name", [".", CONFIG, CODEC, FLOW, "t5", "t5/model.safetensors"])
def test_what_may_not_be_read_is_not_called_missing(copied: Path, name: str) -> None:
    copied.parent.chmod(0o755)
    for path in (copied, *copied.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    assert read_as_another(copied) == "read"
    (copied / name).chmod(0)
    said = read_as_another(copied)
    (copied / name).chmod(0o755)
    assert said.startswith("CheckpointError: copied/")
    assert f"{name.strip('.')}" in said
    assert re.search(r": not readable by uid \d+; run chmod -R a\+rX", said)
    assert "missing" not in said


def drop_file(folder: Path) -> None:
    (folder / FLOW).unlink()


def cut_file(folder: Path) -> None:
    (folder / CODEC).write_bytes((folder / CODEC).read_bytes()[:-1])


def spoil_header(folder: Path) -> None:
    data = (folder / CODEC).read_bytes()
    (folder / CODEC).write_bytes(bytes(8) + data[8:])


def drop_size(folder: Path) -> None:
    change_config(folder, lambda config: config["flow"].pop("dim"))


def add_size(folder: Path) -> None:
    change_config(folder, lambda config: config["codec"].update(width=3))


def drop_facts(folder: Path) -> None:
    change_config(folder, lambda config: config["files"][CODEC].pop("bytes"))


def other_format(folder: Path) -> None:
    change_config(folder, lambda config: config.update(format=2))


def spoil_config(folder: Path) -> None:
    (folder / CONFIG).write_text("{")


def change_config(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    config = json.loads((folder / CONFIG).read_text())
    change(config)
    (folder / CONFIG).write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (drop_file, "flow.safetensors: missing"),
        (cut_file, "bytes, expected"),
        (spoil_header, "codec.safetensors: not a readable safetensors file"),
        (drop_size, "not from a converted checkpoint"),
        (add_size, "not from a converted checkpoint"),
        (drop_facts, "not from a converted checkpoint"),
        (other_format, "format 2; this version needs format 1"),
        (spoil_config, "not JSON"),
    ],
)
def test_the_manifest_alone_tells_the_same_faults(
    copied: Path, spoil: Callable[[Path], None], named: str
) -> None:
    assert read_manifest(copied) == open_checkpoint(copied)
    spoil(copied)
    with pytest.raises(CheckpointError, match=named) as of_manifest:
        read_manifest(copied)
    with pytest.raises(CheckpointError) as of_checkpoint:
        open_checkpoint(copied)
    assert str(of_manifest.value) == str(of_checkpoint.value)


def test_reading_the_manifest_imports_no_pytorch(checkpoint: Path) -> None:
    code = (
        "import sys; from melodyflow.manifest import read_manifest; read_manifest(sys.argv[1]); "
        "print(*{'torch', 'transformers', 'tokenizers'} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, checkpoint], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def test_t5_tensors_are_checked_at_load(copied: Path) -> None:
    weights = copied / "t5" / "model.safetensors"
    tensors = load_file(weights)
    del tensors["encoder.final_layer_norm.weight"]
    save_file(tensors, weights)
    config = json.loads((copied / CONFIG).read_text())
    config["files"]["t5/model.safetensors"]["bytes"] = weights.stat().st_size
    (copied / CONFIG).write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="final_layer_norm"):
        load(open_checkpoint(copied))


def test_what_is_not_a_converted_checkpoint_is_refused_with_the_remedy(
    tmp_path: Path, root: Path
) -> None:
    with pytest.raises(CheckpointError, match="no such checkpoint folder"):
        open_checkpoint(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="scripts/convert_weights"):
        open_checkpoint(root / "tests/data/parity/tiny")
    (tmp_path / CONFIG).write_text("{}")
    with pytest.raises(CheckpointError, match="format None"):
        open_checkpoint(tmp_path)


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return Path.touch, (Path("owned"),)


def test_a_hostile_pickle_is_refused_and_not_run(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "hostile"
    shutil.copytree(root / "tests/data/parity/tiny", source)
    monkeypatch.chdir(tmp_path)
    torch.save({"best_state": {}, "xp.cfg": Hostile()}, source / "compression_state_dict.bin")
    with pytest.raises(CheckpointError, match="not a released MelodyFlow file"):
        convert(source, tmp_path / "out", t5=root / "tests/data/parity/t5")
    (source / "compression_state_dict.bin").write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(CheckpointError):
        convert(source, tmp_path / "out", t5=root / "tests/data/parity/t5")
    assert not (tmp_path / "owned").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["hostile"], "no half-made folder is left"


def test_an_unsupported_configuration_is_refused_by_name(tmp_path: Path, root: Path) -> None:
    from omegaconf import OmegaConf

    source = tmp_path / "other"
    shutil.copytree(root / "tests/data/parity/tiny", source)
    path = source / "state_dict.bin"
    sections = making._flow_sections(open_config(tmp_path, root))
    sections["transformer_lm"]["causal"] = True
    torch.save({"best_state": {}, "xp.cfg": OmegaConf.create(sections)}, path)
    with pytest.raises(CheckpointError, match=r"transformer_lm\.causal is True"):
        convert(source, tmp_path / "out", t5=root / "tests/data/parity/t5")


def open_config(tmp_path: Path, root: Path):  # type: ignore[no-untyped-def]
    out = tmp_path / "whole"
    convert(root / "tests/data/parity/tiny", out, t5=root / "tests/data/parity/t5")
    return open_checkpoint(out).flow


def test_made_checkpoints_are_deterministic_and_convert(tmp_path: Path) -> None:
    for name in ("a", "b"):
        making.make_checkpoint("tiny", tmp_path / name)
        convert(tmp_path / name, tmp_path / f"{name}-converted", name="same")
    first, second = ((tmp_path / f"{name}-converted" / CONFIG).read_text() for name in ("a", "b"))
    # The .bin files carry their own names inside; the tensors are what must be the same.
    assert json.loads(first)["files"] == json.loads(second)["files"]
    assert census(tmp_path / "a" / "state_dict.bin")[0] == 11 + 2 + 6 * 13


def test_full_has_the_released_census(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names and shapes of every released tensor, without making the 4 GB."""
    monkeypatch.setattr(
        making, "_random", lambda name, shape, rng: torch.empty(shape, device="meta")
    )
    released: dict[str, dict[str, str]] = {}
    for line in (root / "tests/data/released_tensors.txt").read_text().splitlines():
        if line.startswith("## "):
            tensors = released.setdefault(line[3:], {})
        elif line:
            name, shape, _ = line.split("\t")
            tensors[name] = shape
    codec, flow = making.configs("full")
    rng = torch.Generator()
    made = {
        "state_dict.bin": dict(making._flow_tensors(codec, flow, rng)),
        "compression_state_dict.bin": dict(making._codec_tensors(codec, flow, rng)),
    }
    for file, values in (
        ("state_dict.bin", 962_425_632),
        ("compression_state_dict.bin", 59_677_956),
    ):
        assert {name: str(tuple(t.shape)) for name, t in made[file].items()} == released[file]
        monkeypatch.setattr(converting, "read_released", lambda path: (made[path.name], {}))
        assert converting.census(Path(file)) == (len(released[file]), values)
