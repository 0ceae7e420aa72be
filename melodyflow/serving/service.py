"""The service behind the Triton model: loads the checkpoint, takes requests, shuts down cleanly."""

import logging
import os
import signal
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from melodyflow.audio import Limits
from melodyflow.edit import warm_up
from melodyflow.engine import MAX_TOKENS, Engine
from melodyflow.errors import Code, EditError
from melodyflow.model.checkpoint import load, open_checkpoint
from melodyflow.serving.call import Call, Responder, Server
from melodyflow.serving.heartbeat import HEARTBEAT_VARIABLE, RESTARTS_VARIABLE, Heartbeat
from melodyflow.serving.instance import Instance
from melodyflow.serving.metrics import Metrics
from melodyflow.serving.outbox import Outbox
from melodyflow.serving.request import Tensors, read_request
from melodyflow.serving.settings import Settings
from melodyflow.serving.tracing import start_tracing

log = logging.getLogger(__name__)

KILL_SECONDS = 30.0  # between asking tritonserver to stop and killing it


class Service:
    """One loaded checkpoint with its engine. Raises CheckpointError and SettingsError."""

    def __init__(self, settings: Settings, instance: Instance, pb_utils: Any) -> None:
        self._settings = settings
        self._instance = instance
        beat = os.environ.get(HEARTBEAT_VARIABLE)
        self._heartbeat = Heartbeat(Path(beat)) if beat else None
        device = instance.device(settings.device)
        precision = settings.precision
        if precision == "auto":
            precision = "bf16" if device.startswith("cuda") else "fp32"
        torch.set_num_threads(instance.threads(settings.threads))
        checkpoint = open_checkpoint(settings.checkpoint, verify=settings.verify)
        model = load(
            checkpoint,
            device=device,
            precision="bf16" if precision == "bf16" else "fp32",
        )
        rate = model.codec.config.sample_rate
        max_samples = round(settings.max_seconds * rate) or model.max_samples
        max_frames = model.codec.config.frames(max_samples) + settings.slots * model.max_frames
        self._outbox = Outbox()
        metrics = Metrics(pb_utils, instance.name, self._outbox.post)
        metrics.restarts(int(os.environ.get(RESTARTS_VARIABLE) or 0))
        metrics.slots(settings.slots)
        metrics.checkpoint(checkpoint.name, checkpoint.sha256, checkpoint.licence, precision)
        self._server = Server(
            model=model,
            checkpoint=checkpoint,
            precision=precision,
            limits=Limits(
                max_bytes=settings.max_audio_bytes,
                max_channels=settings.max_channels,
                min_sample_rate=settings.min_sample_rate,
                max_sample_rate=settings.max_sample_rate,
                min_seconds=settings.min_seconds,
            ),
            max_model_samples=max_samples,
            outbox=self._outbox,
            metrics=metrics,
            tracing=start_tracing(os.environ, instance.name),
        )
        max_tokens = settings.max_tokens or MAX_TOKENS[model.device.type]
        warm_up(model, max_tokens)
        self._engine = Engine(
            model,
            slots=settings.slots,
            max_frames=settings.max_frames or max_frames,
            max_tokens=max_tokens,
            cache_bytes=settings.cache_bytes,
            metrics=metrics,
            on_death=partial(end_server, os.getppid()),
        )
        log.info(
            "%s: checkpoint %s %s, licence %s, %d Hz, %d channels, %s on %s, %d slots",
            instance.name,
            checkpoint.name,
            checkpoint.sha256[:12],
            checkpoint.licence,
            rate,
            model.codec.config.channels,
            precision,
            device,
            settings.slots,
        )

    @property
    def alive(self) -> bool:
        """Whether the service can run edits."""
        return self._engine.alive

    def take(
        self,
        read: Callable[[], tuple[Tensors, Mapping[str, Any]]],
        responder: Responder,
    ) -> None:
        """Takes one request: checks it, waits for a slot and submits it to the engine. Never
        raises.

        `read` returns the input tensors and the parameters. Blocks while all slots are taken, so
        that requests wait in Triton's queue, where its priorities, timeouts and rejections apply.
        With several instances it also blocks afterwards until a slot is free: Triton gives a
        request to any instance that isn't blocked, and the request would wait there while another
        instance has a free slot.
        """
        if self._heartbeat:
            self._heartbeat.took_a_request()
        call = Call(self._server, responder)
        try:
            tensors, parameters = read()
            call.traceparent = str(parameters.get("traceparent", ""))
            request = read_request(
                tensors,
                parameters,
                settings=self._settings,
                limits=self._server.limits,
                max_seconds=self._server.max_seconds,
                guidance=self._server.checkpoint.flow.guidance,
            )
            job = call.accept(request)
            self._engine.acquire(lambda: call.stopped)
            self._engine.submit(job)
        except EditError as error:
            call.failed(error)
        except Exception as error:
            log.exception("failed to accept a request")
            reason = f"the server failed to accept the request: {error!r:.200}"
            call.failed(EditError(Code.INTERNAL, reason))
        if self._instance.count > 1:
            self._engine.wait_for_a_slot()

    def close(self) -> None:
        """Drains the edits in flight, ends the rest after the drain time and joins all threads."""
        self._engine.close(self._settings.drain_seconds)
        self._outbox.close()
        if self._server.tracing:
            self._server.tracing.close()
        if self._heartbeat:
            self._heartbeat.close()


def end_server(server: int) -> None:
    """Stops the tritonserver (a pid) that started this process, so that its watcher restarts it. A
    model whose step loop died can't run another edit."""
    log.critical("stopping tritonserver (process %d)", server)
    _signal_parent(server, signal.SIGTERM)
    timer = threading.Timer(KILL_SECONDS, _signal_parent, (server, signal.SIGKILL))
    timer.daemon = True
    timer.start()


def _signal_parent(parent: int, number: signal.Signals) -> None:
    """Signals the parent if it still is this process's parent: after it has ended, its pid may
    belong to another process."""
    if os.getppid() == parent:
        os.kill(parent, number)
