"""A real Envoy with deploy/envoy/envoy.yaml, on loopback.

Only addresses are changed: ports, the folder of keys and certificate, and where the servers are. A
file names these, with a port for each, where DNS would name them with an address for each.
"""

import http.client
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, Self

import pytest
import yaml

from melodyflow.embedded.ports import choose_ports
from melodyflow_client import MelodyFlowClient

from ..server.conftest import read_metrics
from ..server.drill import ONE_A_CALL, Service, eventually
from .names import NameServer

FILES = Path(__file__).resolve().parents[2] / "deploy" / "envoy"
KEY, OTHER_KEY = "a-key-for-the-tests-0001", "a-key-for-the-tests-0002"
START_SECONDS = 60.0
CERTIFICATE = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
    "-subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 "
    "-keyout tls.key -out tls.crt"
)


class Address(NamedTuple):
    """A Triton's ports on loopback."""

    grpc: int
    http: int


def address_of(server: Any) -> Address:
    """Of anything with `grpc_url` and `http_url`."""
    grpc, http = (int(url.rpartition(":")[2]) for url in (server.grpc_url, server.http_url))
    return Address(grpc, http)


def binary() -> str:
    """The command `envoy`; without it the test is skipped, and fails in CI."""
    found = shutil.which("envoy")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("no envoy: .ci/run installs it")
        pytest.skip("needs envoy (tests/deploy/environment)")
    return found


def write_site(folder: Path, keys: Sequence[str] = (KEY, OTHER_KEY)) -> None:
    """What a site brings: keys and a certificate, in place of /etc/envoy."""
    for name in ("keys", "tls"):
        (folder / name).mkdir(parents=True)
    subprocess.run(CERTIFICATE.split(), cwd=folder / "tls", check=True, capture_output=True)
    write_keys(folder, keys)
    (folder / "tls.yaml").write_text(
        (FILES / "tls.yaml").read_text().replace("/etc/envoy", str(folder))
    )


def write_keys(folder: Path, keys: Sequence[str]) -> None:
    """The file of keys, replaced as an operator would."""
    written = yaml.safe_load((FILES / "keys.example.yaml").read_text())
    rules = written["resources"][0]["typed_config"]["rules"]
    like = str(rules["policies"]["gateway"])
    policies = [yaml.safe_load(like.replace("REPLACE-THIS-KEY", key)) for key in keys]
    rules["policies"] = {f"client-{n}": policy for n, policy in enumerate(policies)}
    new = folder / "keys" / "new"
    new.write_text(yaml.safe_dump(written))
    new.rename(folder / "keys" / "keys.yaml")


class Envoy:
    """One Envoy before some servers. A context manager: it is ready inside, and gone after."""

    def __init__(
        self,
        folder: Path,
        servers: Sequence[Address],
        *,
        threads: int = 1,
        names: NameServer | None = None,
    ) -> None:
        """names: by which the servers are found, as in the file; all have the ports of the one."""
        self.folder, self._threads = folder, threads
        self._process: subprocess.Popen[bytes] | None = None
        ports = choose_ports(dict.fromkeys(("tls", "plain", "own", "admin"), 0))
        self.ports = ports
        self.url, self.tls_url = f"127.0.0.1:{ports['plain']}", f"127.0.0.1:{ports['tls']}"
        if not (folder / "keys").exists():
            write_site(folder)
        self.set_servers(servers)
        config = self._config(servers[0] if names else None)
        for cluster in config["static_resources"]["clusters"]:
            if names and "cluster_type" in cluster:
                dns = cluster["cluster_type"]["typed_config"]
                dns["typed_dns_resolver_config"] = names.resolver()
        (folder / "envoy.yaml").write_text(yaml.safe_dump(config))

    def set_servers(self, servers: Sequence[Address]) -> None:
        """Names the servers: those left out get no new edits."""
        for protocol in Address._fields:
            endpoints = [_endpoint(server, protocol) for server in servers]
            for name in (protocol, f"{protocol}-by-clip"):
                assignment = {
                    "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
                    "cluster_name": name,
                    "endpoints": [{"lb_endpoints": endpoints}],
                }
                file = self.folder / f"{name}.yaml"
                new = file.with_suffix(".new")
                new.write_text(yaml.safe_dump({"resources": [assignment]}))
                new.rename(file)

    def _config(self, named: Address | None) -> dict[str, Any]:
        text = (FILES / "envoy.yaml").read_text().replace("/etc/envoy", str(self.folder))
        config: dict[str, Any] = yaml.safe_load(text)
        resources = config["static_resources"]
        for listener in resources["listeners"]:
            _listen(listener, self.ports[listener["name"]])
        _listen(config["admin"], self.ports["admin"])
        for cluster in resources["clusters"]:
            if cluster["name"] == "admin":
                [[endpoint]] = [e["lb_endpoints"] for e in cluster["load_assignment"]["endpoints"]]
                _listen(endpoint["endpoint"], self.ports["admin"])
                continue
            if named is not None:
                protocol = cluster["name"].removesuffix("-by-clip")
                [locality] = cluster["load_assignment"]["endpoints"]
                [one] = locality["lb_endpoints"]
                name = one["endpoint"]["address"]["socket_address"]["address"]
                locality["lb_endpoints"] = [_endpoint(named, protocol, name)]
                continue
            del cluster["cluster_type"], cluster["load_assignment"]
            cluster["type"] = "EDS"
            path = {"path": str(self.folder / f"{cluster['name']}.yaml")}
            source = {"path_config_source": path, "resource_api_version": "V3"}
            cluster["eds_cluster_config"] = {"eds_config": source}
        return config

    def start(self) -> None:
        command = [binary(), "-c", str(self.folder / "envoy.yaml"), "--disable-hot-restart"]
        command += ["--concurrency", str(self._threads), "--log-level", "warning"]
        with (
            (self.folder / "access.log").open("ab") as said,
            (self.folder / "envoy.log").open("ab") as log,
        ):
            self._process = subprocess.Popen(command, stdout=said, stderr=log)
        until = time.monotonic() + START_SECONDS
        while self.get("own", "/ready") != 200:
            if self._process.poll() is not None or time.monotonic() > until:
                self.stop()
                pytest.fail(f"Envoy did not start: {(self.folder / 'envoy.log').read_text()}")
            time.sleep(0.05)

    def stop(self) -> None:
        assert self._process
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def get(self, listener: str, path: str) -> int | None:
        """The status of a GET without a key; None: no answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[listener], timeout=10)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def metrics(self) -> dict[str, float]:
        """Its own, as Prometheus reads them."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports["own"], timeout=10)
        connection.request("GET", "/stats/prometheus")
        lines = connection.getresponse().read().decode().splitlines()
        connection.close()
        pairs = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    def healthy(self, cluster: str = "grpc") -> int:
        """How many servers get edits."""
        label = f'{{envoy_cluster_name="{cluster}"}}'
        return round(self.metrics()[f"envoy_cluster_membership_healthy{label}"])

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Fleet:
    """Servers behind one Envoy. A context manager: all are ready inside."""

    def __init__(self, checkpoint: Path, folder: Path, servers: int, *settings: str) -> None:
        binary()  # before anything is started
        self._checkpoint, self.folder, self._count = checkpoint, folder, servers
        self._settings = settings or ONE_A_CALL
        self._stack = ExitStack()

    def start_server(self, number: int, *more: str) -> Service:
        log = self.folder / f"triton-{number}.log"
        return Service(self._checkpoint, log, *self._settings, *more)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            with ThreadPoolExecutor() as pool:
                self.servers = list(pool.map(self.start_server, range(self._count)))
            stack.callback(lambda: [server.end() for server in self.servers])
            addresses = [address_of(server) for server in self.servers]
            self.envoy = stack.enter_context(Envoy(self.folder / "envoy", addresses))
            assert eventually(lambda: self.envoy.healthy() == self._count, START_SECONDS)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def client(self, **options: Any) -> MelodyFlowClient:
        """Of Envoy, with the right key."""
        return MelodyFlowClient(self.envoy.url, **{"api_key": KEY, **options})

    def counted(self, metric: str) -> list[float]:
        """A metric of each server."""
        return [read_metrics(server.metrics_url).get(metric, 0) for server in self.servers]


def _listen(where: dict[str, Any], port: int) -> None:
    where["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": port}


def _endpoint(server: Address, protocol: str, host: str = "127.0.0.1") -> dict[str, Any]:
    socket_address = {"address": host, "port_value": getattr(server, protocol)}
    endpoint: dict[str, Any] = {"address": {"socket_address": socket_address}}
    if protocol == "grpc":
        endpoint["health_check_config"] = {"port_value": server.http}
    return {"endpoint": endpoint}
