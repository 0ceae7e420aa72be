"""MelodyFlow's Triton lifecycle. Everything else is in the package `melodyflow`."""

import json
import logging
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from melodyflow.contract import INPUTS, OUTPUTS
from melodyflow.errors import CheckpointError, Code, EditError, SettingsError
from melodyflow.serving.instance import read_instance
from melodyflow.serving.request import invalid, request_parameters
from melodyflow.serving.service import Service
from melodyflow.serving.settings import read_settings

# Names in pb_utils.TritonError, which Triton fills in only after this module is imported, and in
# the error's text: a gRPC stream carries texts alone.
CODES = {
    Code.INVALID_ARG: ("INVALID_ARG", "INVALID_ARGUMENT"),
    Code.CANCELLED: ("CANCELLED", "CANCELLED"),
    Code.DEADLINE: ("CANCELLED", "DEADLINE_EXCEEDED"),  # Triton has no code of its own for it
    Code.UNAVAILABLE: ("UNAVAILABLE", "UNAVAILABLE"),
    Code.INTERNAL: ("INTERNAL", "INTERNAL"),
}
DTYPES = {"FP32": np.float32, "INT32": np.int32, "INT64": np.int64, "BYTES": np.object_}


class TritonPythonModel:
    """Loads at initialize, hands requests to the service at execute, drains at finalize."""

    def initialize(self, args: dict[str, str]) -> None:
        logging.basicConfig(level=logging.INFO, handlers=[TritonLog()], force=True)
        config = json.loads(args["model_config"])
        try:
            settings = read_settings(config, os.environ)
            self.service = Service(settings, read_instance(args, config), pb_utils)
        except (SettingsError, CheckpointError) as error:
            raise pb_utils.TritonModelException(str(error)) from None

    def execute(self, requests: list[Any]) -> None:
        """Responses go through each request's own sender. Blocks while all slots are taken."""
        for request in requests:
            self.service.take(lambda request=request: read_tensors(request), Responder(request))

    def is_ready(self) -> bool:
        """Asked by Triton from 26.03 on."""
        return self.service.alive

    def finalize(self) -> None:
        self.service.close()


def read_tensors(request: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """A request's inputs, copied (they die with execute()), and its parameters. Raises EditError
    for text that is no UTF-8: Triton's own libraries decode it here."""
    text_of(request.request_id, "id")
    tensors = {}
    for name in INPUTS:
        tensor = pb_utils.get_input_tensor_by_name(request, name)
        if tensor is not None:
            tensors[name] = tensor.as_numpy().copy()
    return tensors, request_parameters(text_of(request.parameters, "parameters"))


def text_of(read: Callable[[], str], name: str) -> str:
    try:
        return read()
    except UnicodeDecodeError as error:
        raise invalid(name, error.object[error.start :], "text must be UTF-8") from None


class Responder:
    """One request's way back. Only used on the service's outbox thread."""

    def __init__(self, request: Any) -> None:
        try:
            self.request_id = request.request_id()
        except UnicodeDecodeError:  # which is refused (read_tensors), by way of this responder
            self.request_id = ""
        self._sender = request.get_response_sender()

    def is_cancelled(self) -> bool:
        return bool(self._sender.is_cancelled())

    def send(self, outputs: dict[str, Any], *, final: bool) -> None:
        response = pb_utils.InferenceResponse([tensor(*output) for output in outputs.items()])
        flags = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if final else 0
        self._sender.send(response, flags=flags)

    def finish(self) -> None:
        self._sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def send_error(self, error: EditError) -> None:
        code, status = CODES[error.code]
        failure = pb_utils.TritonError(f"{error} [{status}]", getattr(pb_utils.TritonError, code))
        self._sender.send(
            pb_utils.InferenceResponse(error=failure),
            flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL,
        )


def tensor(name: str, value: Any) -> Any:
    """An output tensor, with the batch dimension that is always 1."""
    values = value if isinstance(value, tuple) else (value,)
    values = [v.encode() if isinstance(v, str) else v for v in values]
    return pb_utils.Tensor(name, np.array([values], dtype=DTYPES[OUTPUTS[name].wire]))


class TritonLog(logging.Handler):
    """Python's log records in Triton's log."""

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        if record.levelno >= logging.ERROR:
            pb_utils.Logger.log_error(text)
        elif record.levelno >= logging.WARNING:
            pb_utils.Logger.log_warn(text)
        else:
            pb_utils.Logger.log_info(text)
