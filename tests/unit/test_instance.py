"""What an instance makes of its place in `instance_group`."""

import pytest
import torch

from melodyflow.errors import SettingsError
from melodyflow.serving.instance import Instance, read_instance

ON_GPU_1 = Instance("melodyflow_0_0_gpu1", gpu=1, count=2)


def on_machine(monkeypatch: pytest.MonkeyPatch, gpus: int) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)


def read(kind: str, device: int, groups: list[dict[str, object]]) -> Instance:
    args = {
        "model_instance_name": "melodyflow_0_0",
        "model_instance_kind": kind,
        "model_instance_device_id": str(device),
    }
    return read_instance(args, {"instance_group": groups})


def test_instances_on_several_gpus_differ_in_name_and_device() -> None:
    group = {"kind": "KIND_GPU", "count": 1, "gpus": [0, 1]}
    first, second = read("GPU", 0, [group]), read("GPU", 1, [group])
    assert (first.gpu, second.gpu) == (0, 1)
    assert first.name != second.name
    assert first.count == second.count == 2


def test_an_instance_on_the_cpu_has_no_device_of_its_own() -> None:
    group = {"kind": "KIND_CPU", "count": 3, "gpus": []}
    assert read("CPU", 0, [group]) == Instance("melodyflow_0_0", None, 3)


@pytest.mark.parametrize("setting", ["auto", "cuda"])
def test_triton_says_which_gpu(monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    on_machine(monkeypatch, 2)
    assert ON_GPU_1.device(setting) == "cuda:1"


@pytest.mark.parametrize("setting", ["cpu", "cuda:1"])
def test_a_device_beside_tritons_is_refused(monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    on_machine(monkeypatch, 2)
    with pytest.raises(SettingsError, match=f"^device: '{setting}'; must be auto or cuda"):
        ON_GPU_1.device(setting)


@pytest.mark.parametrize(("gpus", "seen"), [(0, "no GPU"), (1, "only GPU 0")])
def test_a_gpu_that_torch_does_not_see_is_named(
    monkeypatch: pytest.MonkeyPatch, gpus: int, seen: str
) -> None:
    on_machine(monkeypatch, gpus)
    with pytest.raises(SettingsError, match=f"^instance_group: KIND_GPU on GPU 1.* sees {seen}"):
        ON_GPU_1.device("auto")
    with pytest.raises(SettingsError, match=f"^device: 'cuda:1', but PyTorch sees {seen}"):
        Instance("melodyflow_0_0").device("cuda:1")


def test_without_a_gpu_of_its_own_the_setting_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    instance = Instance("melodyflow_0_0")
    on_machine(monkeypatch, 0)
    assert instance.device("auto") == instance.device("cpu") == "cpu"
    on_machine(monkeypatch, 2)
    assert instance.device("auto") == instance.device("cuda") == "cuda"
    assert instance.device("cuda:1") == "cuda:1"


def test_instances_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 6)
    threads = [Instance("melodyflow_0_0", None, count).threads(0) for count in (1, 2, 4, 8)]
    assert threads == [6, 3, 1, 1]
    assert Instance("melodyflow_0_0", None, 2).threads(5) == 5
