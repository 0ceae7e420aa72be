"""deploy/kubernetes: valid as Kubernetes itself judges, and what the objects promise together."""

import dataclasses
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from melodyflow import __version__ as VERSION
from melodyflow.serving.settings import PREFIX, Settings
from melodyflow_gateway.routes import health
from melodyflow_gateway.settings import Settings as GatewaySettings
from melodyflow_gateway.settings import read_settings, variable

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy/kubernetes"
OVERLAYS = ("kubernetes", "kubernetes-cpu")
PAGE = (ROOT / "docs/kubernetes.md").read_text()
EDIT_SECONDS = GatewaySettings.model_fields["edit_seconds"].default

overlays = pytest.mark.parametrize("overlay", OVERLAYS)
Object = dict[str, Any]


def skip(what: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(f"no {what}: tests/deploy/environment installs it")
    pytest.skip(f"needs {what}: run tests/deploy/environment")


@cache
def rendered(overlay: str) -> str:
    kubectl = shutil.which("kubectl", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if kubectl is None:
        skip("kubectl")
    done = subprocess.run(
        [str(kubectl), "kustomize", ROOT / "deploy" / overlay],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def objects(overlay: str) -> list[Object]:
    return list(yaml.load_all(rendered(overlay), yaml.CSafeLoader))


def find(overlay: str, kind: str, name: str) -> Object:
    [found] = [
        one for one in objects(overlay) if (one["kind"], one["metadata"]["name"]) == (kind, name)
    ]
    return found


def pod(one: Object) -> Object:
    spec: Object = one["spec"]["template"]["spec"]
    return spec


def pods(overlay: str) -> Iterator[tuple[str, Object]]:
    for one in objects(overlay):
        if one["kind"] in ("Deployment", "Job"):
            yield one["metadata"]["name"], pod(one)


def container(overlay: str, name: str) -> Object:
    [found] = pod(find(overlay, "Deployment", name))["containers"]
    return dict(found)


def environment(one: Object) -> dict[str, str]:
    """Without what comes from Secrets."""
    return {each["name"]: each["value"] for each in one.get("env", []) if "value" in each}


def schema_errors(text: str, tmp_path: Path) -> str:
    if importlib.util.find_spec("kubernetes_validate") is None:
        skip("kubernetes-validate")
    (tmp_path / "objects.yaml").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "kubernetes_validate", "--strict", tmp_path / "objects.yaml"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


@overlays
def test_kubernetes_takes_every_object(overlay: str, tmp_path: Path) -> None:
    assert not schema_errors(rendered(overlay), tmp_path)


def test_a_misspelt_field_would_be_noticed(tmp_path: Path) -> None:
    wrong = rendered("kubernetes").replace("readinessProbe:", "readinessProb:", 1)
    assert "readinessProb" in schema_errors(wrong, tmp_path)


@overlays
def test_what_stops_waits_longer_than_the_longest_edit(overlay: str) -> None:
    exit_timeout = int(environment(container(overlay, "triton"))["MELODYFLOW_EXIT_TIMEOUT"])
    drain = float(environment(container(overlay, "gateway"))["MELODYFLOW_GATEWAY_DRAIN_SECONDS"])
    waits = {"triton": exit_timeout, "gateway": drain, "envoy": 0}
    for name, wait in waits.items():
        lingers = container(overlay, name)["lifecycle"]["preStop"]["sleep"]["seconds"]
        grace = pod(find(overlay, "Deployment", name))["terminationGracePeriodSeconds"]
        assert grace > lingers + wait, name
        # Envoy ends its streams at once: what it waits is before that.
        assert (wait or lingers) > EDIT_SECONDS, name


@overlays
def test_no_variable_but_settings(overlay: str) -> None:
    """A server stops at a setting that it doesn't know, and so does a gateway."""
    known = {PREFIX + field.name.upper() for field in dataclasses.fields(Settings)}
    given = environment(container(overlay, "triton"))
    assert given.keys() - known == {"MELODYFLOW_EXIT_TIMEOUT"}
    assert given["MELODYFLOW_DEVICE"] == ("cpu" if overlay.endswith("cpu") else "cuda")
    dockerfile = (ROOT / "Dockerfile.triton").read_text()
    assert "MELODYFLOW_EXIT_TIMEOUT" in dockerfile
    # Not those that Kubernetes makes of a Service's name.
    for name, spec in pods(overlay):
        assert spec["enableServiceLinks"] is False, name


def test_the_gateways_settings_are_good(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("a-token-for-the-tests-0001\n")
    given = container("kubernetes", "gateway")
    secret = {each["name"] for each in given["env"] if "valueFrom" in each}
    assert secret == {"MELODYFLOW_API_KEY", "REDIS_URL"}
    mounts = {mount["name"]: mount["mountPath"] for mount in given["volumeMounts"]}
    values = environment(given)
    assert values[variable("tokens_file")] == f"{mounts['secret']}/tokens"
    values[variable("tokens_file")] = str(tmp_path / "tokens")
    for name, value in (values | {"MELODYFLOW_GATEWAY_HOST": "0.0.0.0"}).items():
        monkeypatch.setenv(name, value)
    settings = read_settings({})
    assert (settings.server, settings.metrics) == ("envoy:8001", "triton:8002")
    assert settings.connections_by_address == settings.connections
    assert "gateway" in settings.allowed_hosts
    # What it can take at most is less than the container may.
    assert "Gi" in given["resources"]["limits"]["memory"]
    assert int(given["resources"]["limits"]["memory"].removesuffix("Gi")) * 2**30 > (
        2 * settings.memory_bytes
    )


@overlays
def test_images_are_those_of_this_version(overlay: str) -> None:
    own = {}
    for _, spec in pods(overlay):
        for one in [*spec.get("initContainers", []), *spec["containers"]]:
            name, _, tag = one["image"].rpartition(":")
            assert tag, one["image"]
            if name.startswith("melodyflow-"):
                own[name] = tag
    assert {tag.removesuffix("-cpu") for tag in own.values()} == {VERSION}
    # Those that the profile of the compose file builds.
    profile = "cpu" if overlay.endswith("-cpu") else "gpu"
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    built = [services[name]["image"].split(":") for name in (f"triton-{profile}", "gateway")]
    assert own == dict(built)
    examples = "".join(path.read_text() for path in (FOLDER / "examples").iterdir())
    assert re.findall(r"melodyflow-\w+:([\w.]+)", examples) == [VERSION]


@overlays
def test_pods_are_closed(overlay: str) -> None:
    """As the namespace's `restricted` asks, and more."""
    assert find(overlay, "Namespace", "melodyflow")["metadata"]["labels"] == {
        "app.kubernetes.io/part-of": "melodyflow",
        "pod-security.kubernetes.io/enforce": "restricted",
    }
    for name, spec in pods(overlay):
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for one in [*spec.get("initContainers", []), *spec["containers"]]:
            context = one["securityContext"]
            assert context["readOnlyRootFilesystem"] is True, name
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert "memory" in one["resources"]["limits"], name
            assert {"cpu", "memory"} <= one["resources"]["requests"].keys(), name


@overlays
def test_gpus_are_asked_for_where_there_are_some(overlay: str) -> None:
    spec = pod(find(overlay, "Deployment", "triton"))
    asked = spec["containers"][0]["resources"]
    gpus = None if overlay.endswith("cpu") else 1
    assert asked["limits"].get("nvidia.com/gpu") == gpus
    assert asked["requests"].get("nvidia.com/gpu") == gpus
    assert ("tolerations" in spec) == (gpus is not None)


@overlays
def test_probes_ask_what_there_is(overlay: str) -> None:
    triton, gateway, envoy = (container(overlay, name) for name in ("triton", "gateway", "envoy"))
    for probe in ("readinessProbe", "startupProbe"):
        assert triton[probe]["httpGet"] == {"path": "/v2/models/melodyflow/ready", "port": "http"}
    assert triton["livenessProbe"]["httpGet"]["path"] == "/v2/health/live"
    # It loads for minutes before it is ready; the README's weights are 5 GB.
    startup = triton["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 600
    assert gateway["readinessProbe"]["httpGet"] == {"path": "/ready", "port": "http"}
    assert "/ready" in {route.path for route in health.router.routes}
    # Without Triton it isn't ready, and must not be restarted for it.
    assert gateway["livenessProbe"]["tcpSocket"] == {"port": "http"}
    [own] = re.findall(r"path: /ready, .*\n.*cluster: (\w+)", envoy_configuration())
    assert own == "admin"
    assert envoy["readinessProbe"]["httpGet"] == {"path": "/ready", "port": "metrics"}


def envoy_configuration() -> str:
    return (ROOT / "deploy/envoy/envoy.yaml").read_text()


@overlays
def test_ports_have_one_number_everywhere(overlay: str) -> None:
    for name in ("triton", "gateway", "envoy", "redis"):
        service = find(overlay, "Service", name)
        exposed = {port["name"]: port["port"] for port in service["spec"]["ports"]}
        ports = container(overlay, name)["ports"]
        assert exposed == {port["name"]: port["containerPort"] for port in ports}
        labels = find(overlay, "Deployment", name)["spec"]["template"]["metadata"]["labels"]
        assert service["spec"]["selector"].items() <= labels.items()
    listening = set(map(int, re.findall(r"0\.0\.0\.0, port_value: (\d+)", envoy_configuration())))
    assert listening == {port["containerPort"] for port in container(overlay, "envoy")["ports"]}
    # Envoy asks for one address of each server.
    assert find(overlay, "Service", "triton")["spec"]["clusterIP"] == "None"
    assert "address: triton, port_value: 8001" in envoy_configuration()


def test_envoy_reads_what_is_mounted() -> None:
    mounts = {m["mountPath"]: m for m in container("kubernetes", "envoy")["volumeMounts"]}
    volumes = {v["name"]: v for v in pod(find("kubernetes", "Deployment", "envoy"))["volumes"]}
    configuration = volumes["configuration"]["configMap"]["name"]
    assert re.fullmatch(r"envoy-\w{10}", configuration)
    data = find("kubernetes", "ConfigMap", configuration)["data"]
    assert data["envoy.yaml"] == envoy_configuration()
    texts = "".join(data.values())
    for path in re.findall(r"(?:path|filename): (/etc/envoy/[\w./]+)", texts):
        folder, _, file = path.rpartition("/")
        if "subPath" in mounts.get(path, {}):
            assert mounts[path]["subPath"] == file in data
        else:
            # Watched, so a whole Secret is mounted, which Kubernetes replaces.
            mounted = mounts.get(folder, mounts.get(path))
            assert mounted is not None, path
            assert "secret" in volumes[mounted["name"]], path


@overlays
def test_weights_are_read_only_for_the_servers_and_filled_by_the_job(overlay: str) -> None:
    spec = pod(find(overlay, "Deployment", "triton"))
    for one in [*spec["initContainers"], *spec["containers"]]:
        [mount] = [each for each in one["volumeMounts"] if each["name"] == "weights"]
        assert (mount["mountPath"], mount["readOnly"]) == ("/weights", True)
        assert "subPath" not in mount  # it would be a folder that the job then replaces
    claims = {
        name: volume["persistentVolumeClaim"]
        for name, each in pods(overlay)
        for volume in each["volumes"]
        if volume["name"] == "weights"
    }
    assert claims == {
        "triton": {"claimName": "weights", "readOnly": True},
        "weights": {"claimName": "weights"},
    }
    [job] = pod(find(overlay, "Job", "weights"))["containers"]
    checkpoint = job["command"][3]
    assert environment(spec["containers"][0])["MELODYFLOW_CHECKPOINT"] == checkpoint
    [waiting] = spec["initContainers"]
    assert f"{checkpoint}/config.json" in waiting["command"][-1]
    done = subprocess.run(
        [sys.executable, *job["command"][1:3], "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert "--source" in done.stdout
    # What it needs beside the server's own libraries.
    assert "\nomegaconf==" in (ROOT / "requirements-triton.txt").read_text()


@overlays
def test_everything_that_serves_survives_the_loss_of_a_node(overlay: str) -> None:
    for name in ("triton", "envoy", "gateway"):
        budget = find(overlay, "PodDisruptionBudget", name)["spec"]
        deployment = find(overlay, "Deployment", name)["spec"]
        assert budget["maxUnavailable"] == 1
        assert budget["selector"] == deployment["selector"]
        [spread] = pod(find(overlay, "Deployment", name))["topologySpreadConstraints"]
        assert spread["topologyKey"] == "kubernetes.io/hostname"
        assert deployment.get("replicas", 2) >= 2
    scaler = find(overlay, "HorizontalPodAutoscaler", "triton")["spec"]
    assert scaler["minReplicas"] >= 2
    # Both would set it, in turns.
    assert "replicas" not in find(overlay, "Deployment", "triton")["spec"]


def test_the_autoscalers_metric_is_one_that_is_made() -> None:
    [metric] = find("kubernetes", "HorizontalPodAutoscaler", "triton")["spec"]["metrics"]
    adapter = yaml.safe_load((FOLDER / "examples/prometheus-adapter.yaml").read_text())
    [rule] = adapter["rules"]["external"]
    assert rule["name"]["as"] == metric["external"]["metric"]["name"]
    rules = (ROOT / "deploy/prometheus/rules.yaml").read_text()
    assert f"record: {rule['seriesQuery']}\n" in rules


def test_nobody_reaches_more_than_they_need() -> None:
    policies = [one for one in objects("kubernetes") if one["kind"] == "NetworkPolicy"]
    specs = {one["metadata"]["name"]: one["spec"] for one in policies}
    assert specs["nothing"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}

    def peers(name: str, way: str, key: str) -> dict[str, set[int]]:
        """Who it may hear from or speak to, by which ports."""
        found: dict[str, set[int]] = {}
        for rule in specs[name].get(way, []):
            for peer in rule.get(key, [{}]):
                labels = next(iter(peer.values()))["matchLabels"] if peer else {"": "everybody"}
                found.setdefault(next(iter(labels.values())), set()).update(
                    port["port"] for port in rule["ports"]
                )
        return found

    assert peers("triton", "ingress", "from") == {
        "envoy": {8000, 8001},
        "gateway": {8002},
        "monitoring": {8002},
    }
    assert "Egress" not in specs["triton"]["policyTypes"]
    assert peers("gateway", "egress", "to") == {"envoy": {8001}, "triton": {8002}, "redis": {6379}}
    assert peers("envoy", "egress", "to") == {"triton": {8000, 8001}}
    assert peers("envoy", "ingress", "from") == {
        "everybody": {8443},
        "gateway": {8001},
        "monitoring": {9902},
    }
    assert peers("redis", "ingress", "from") == {"gateway": {6379}}
    assert peers("weights", "egress", "to") == {"everybody": {443}}


def test_the_page_makes_every_secret_that_is_used() -> None:
    used: dict[str, set[str]] = {}
    for _, spec in pods("kubernetes"):
        for volume in spec["volumes"]:
            if "secret" in volume:
                keys = {item["key"] for item in volume["secret"].get("items", [])}
                used.setdefault(volume["secret"]["secretName"], set()).update(keys)
        for one in spec["containers"]:
            for each in one.get("env", []):
                if "valueFrom" in each:
                    asked = each["valueFrom"]["secretKeyRef"]
                    used.setdefault(asked["name"], set()).add(asked["key"])
    used["envoy-keys"].add("keys.yaml")
    made = {
        name: set(re.findall(r"--from-(?:file|literal)=([\w.]+)=", rest))
        for name, rest in re.findall(
            r"create secret generic ([\w-]+)((?: \\\n.*| .*)+)", PAGE.replace("\\\n", " ")
        )
    }
    assert "create secret tls envoy-tls" in PAGE
    del used["envoy-tls"]
    assert made.pop("gateway-metrics") == {"token"}  # for examples/servicemonitor.yaml
    assert made == used


def test_examples_fit_the_objects() -> None:
    monitors = list(yaml.safe_load_all((FOLDER / "examples/servicemonitor.yaml").read_text()))
    scraped = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yaml").read_text())
    jobs = {job["job_name"] for job in scraped["scrape_configs"]}
    assert jobs <= {monitor["metadata"]["name"] for monitor in monitors}
    for monitor in monitors:
        service = find("kubernetes", "Service", monitor["metadata"]["name"])
        wanted = monitor["spec"]["selector"]["matchLabels"]
        assert wanted.items() <= service["metadata"]["labels"].items()
        [endpoint] = monitor["spec"]["endpoints"]
        assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    kserve = yaml.safe_load((FOLDER / "examples/kserve.yaml").read_text())["spec"]["predictor"]
    [example] = kserve["containers"]
    ours = container("kubernetes", "triton")
    for key in ("env", "image", "resources", "volumeMounts"):
        assert example[key] == ours[key], key
    triton = pod(find("kubernetes", "Deployment", "triton"))
    for key in ("terminationGracePeriodSeconds", "enableServiceLinks", "volumes"):
        assert kserve[key] == triton[key], key
