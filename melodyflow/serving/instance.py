"""Which of the model's instances this process is. Triton starts one process per instance."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from melodyflow.errors import SettingsError


@dataclass(frozen=True)
class Instance:
    """One instance of `instance_group` in the model's configuration."""

    name: str  # unique in this server
    gpu: int | None = None  # for KIND_GPU: the device Triton assigned
    count: int = 1  # instances of the model in this server

    def device(self, setting: str) -> str:
        """The device to load the model on: "cpu", "cuda" or "cuda:N". Raises SettingsError."""
        visible = torch.cuda.device_count()
        if self.gpu is not None:
            if setting not in ("auto", "cuda"):
                raise SettingsError(
                    f"device: {setting!r}; must be auto or cuda, because instance_group is of "
                    "KIND_GPU: Triton assigns each instance its device"
                )
            if self.gpu >= visible:
                raise SettingsError(
                    f"instance_group: KIND_GPU on GPU {self.gpu}, but {_sees(visible)}; choose "
                    "GPUs it sees, or KIND_CPU"
                )
            return f"cuda:{self.gpu}"
        if setting == "auto":
            return "cuda" if visible else "cpu"
        if setting.startswith("cuda") and int(setting.partition(":")[2] or 0) >= visible:
            raise SettingsError(f"device: {setting!r}, but {_sees(visible)}; use auto or cpu")
        return setting

    def threads(self, setting: int) -> int:
        """CPU threads for this process: the setting, or an equal share of the cores."""
        return setting or max(1, torch.get_num_threads() // self.count)


def read_instance(args: Mapping[str, str], config: Mapping[str, Any]) -> Instance:
    """Reads the arguments of the Python backend's `initialize` and the model configuration, in
    which Triton has filled in what config.pbtxt leaves open."""
    on_gpu = args["model_instance_kind"] == "GPU"
    gpu = int(args["model_instance_device_id"]) if on_gpu else None
    # A group's instances on several GPUs share one name.
    name = args["model_instance_name"] + ("" if gpu is None else f"_gpu{gpu}")
    return Instance(name, gpu, sum(map(_processes, config["instance_group"])))


def _processes(group: Mapping[str, Any]) -> int:
    on_gpus = group["kind"] == "KIND_GPU"
    return int(group["count"]) * (len(group["gpus"]) if on_gpus else 1)


def _sees(visible: int) -> str:
    if visible < 2:
        return f"PyTorch sees {'only GPU 0' if visible else 'no GPU'}"
    return f"PyTorch sees GPUs 0 to {visible - 1}"
