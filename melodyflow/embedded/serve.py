"""scripts/serve: serves a checkpoint on loopback, until Ctrl-C or while a command runs.

If tritonserver dies or hangs (melodyflow.embedded.watch), it is restarted on the same ports.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

from melodyflow.embedded.keeper import Keeper, say
from melodyflow.embedded.server import DEMO_CHECKPOINT, EXIT_TIMEOUT, EmbeddedServer
from melodyflow.errors import EmbeddedError


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (equals and re.fullmatch(r"[A-Za-z_]+", name)):
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME=VALUE, such as SLOTS=4")
    return name.upper(), value


def _whole_seconds(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number of seconds, 0 or more")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a number of seconds above 0")
    return seconds


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/serve",
        description="Serve a checkpoint with an embedded Triton, on this machine only (loopback).",
        epilog="Port 0 picks a free port. Settings: model_repository/melodyflow/config.pbtxt.",
    )
    parser.add_argument(
        "--checkpoint",
        type=Path,
        default=Path(os.environ.get("MELODYFLOW_CHECKPOINT") or DEMO_CHECKPOINT),
        help="folder of a converted checkpoint (default: $MELODYFLOW_CHECKPOINT or the demo)",
    )
    for name, port in (("http", 8000), ("grpc", 8001), ("metrics", 8003)):
        parser.add_argument(f"--{name}-port", type=int, default=port, metavar="N", help=f"({port})")
    parser.add_argument(
        "--set",
        type=_setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="settings",
        help="a model setting, such as DEVICE=cpu; repeatable",
    )
    parser.add_argument("--model-repository", type=Path, metavar="DIR", help="(the checkout's)")
    parser.add_argument("--log", type=Path, metavar="FILE", help="append Triton's log to FILE")
    parser.add_argument(
        "--exit-timeout",
        type=_whole_seconds,
        default=EXIT_TIMEOUT,
        metavar="SECONDS",
        help=f"how long edits in flight may run on after Ctrl-C or SIGTERM ({EXIT_TIMEOUT}); "
        "a second signal stops them at once",
    )
    parser.add_argument(
        "--start-timeout",
        type=_seconds,
        default=600.0,
        metavar="SECONDS",
        help="how long loading may take (600)",
    )
    parser.add_argument(
        "command",
        nargs="*",
        metavar="-- COMMAND",
        help="run COMMAND with the gRPC address in $MELODYFLOW_SERVER, stop the server when it "
        "ends, edits in flight included, and exit with its code",
    )
    return parser.parse_args()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _run(command: list[str], server: EmbeddedServer, keeper: Keeper) -> int:
    """Runs a command against the server and returns its exit code."""
    environment = os.environ | {"MELODYFLOW_SERVER": server.grpc_url}
    try:
        process = subprocess.Popen(command, env=environment)
    except OSError as error:
        raise EmbeddedError(f"{command[0]}: {error.strerror}") from None
    with process:
        try:
            keeper.run(lambda: process.poll() is not None)
        except BaseException:
            with suppress(subprocess.TimeoutExpired):
                process.wait(2)  # a terminal's Ctrl-C has reached it too
            process.terminate()
            raise
    return process.returncode


def main() -> int:
    """Serves until Ctrl-C or SIGTERM (exit code 0). Any failure gives exit code 1, with the reason
    on stderr."""
    arguments = _arguments()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup
            signal.signal(number, _interrupt)
    server: EmbeddedServer | None = None
    try:
        server = EmbeddedServer(
            arguments.checkpoint,
            http_port=arguments.http_port,
            grpc_port=arguments.grpc_port,
            metrics_port=arguments.metrics_port,
            settings=dict(arguments.settings),
            model_repository=arguments.model_repository,
            log=arguments.log,
            exit_timeout=arguments.exit_timeout,
        )
        started = time.monotonic()
        server.start(arguments.start_timeout)
        keeper = Keeper(server, arguments.start_timeout)
        ready = f"MelodyFlow is ready ({time.monotonic() - started:.1f} s)"
        if arguments.command:
            say(ready)  # stdout is the command's
            code = _run(arguments.command, server, keeper)
            server.stop(at_once=True)  # the command has ended; a clean stop would take 3 s
            return code
        print(
            f"{ready}\n"
            f"  gRPC     {server.grpc_url}\n"
            f"  HTTP     http://{server.http_url}\n"
            f"  metrics  http://{server.metrics_url}/metrics\n"
            "Try: melodyflow transform examples/riff.wav --variation strings_quartet "
            f"-o strings.wav --server {server.grpc_url}\n"
            "Press Ctrl-C to stop.",
            flush=True,
        )
        keeper.run()
    except EmbeddedError as error:
        say(f"serve: {error}")
        if server:
            server.stop()
        return 1
    except KeyboardInterrupt:
        say(f"stopping: edits in flight have {arguments.exit_timeout} s (Ctrl-C again: stop now)")
        if server:
            try:
                server.stop()
            except KeyboardInterrupt:
                server.stop(at_once=True)
        return 130 if arguments.command else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
