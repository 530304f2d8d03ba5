"""The Kubernetes objects of deploy/kubernetes: valid for Kubernetes, and true about otpqueue."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import falcon.testing
import kubernetes_validate
import pytest
import yaml

from otpqueue import jobs
from otpqueue.api.app import create_app
from otpqueue.settings import Settings
from otpqueue.telemetry import metrics_page
from otpqueue.worker.exposition import LIVE_PATH
from tests.conftest import MakeParts
from tests.deploy.described import SECRETS, check_settings, parse_command, read_objects

KUBERNETES = "1.33"
CUSTOM = {"ScaledObject"}
"""Kinds that Kubernetes itself does not define."""

Object = dict[str, Any]


@pytest.fixture(scope="module")
def folder() -> Path:
    """Return the folder of the objects."""
    return Path(__file__).resolve().parents[2] / "deploy" / "kubernetes"


@pytest.fixture(scope="module")
def written(folder: Path) -> list[Object]:
    """Return the objects as they are in the files."""
    files = [path for path in sorted(folder.rglob("*.yaml")) if path.name != "kustomization.yaml"]
    return [one for path in files for one in read_objects(path)]


@pytest.fixture(scope="module")
def rendered(folder: Path) -> list[Object]:
    """Return the objects of the example overlay, as kustomize renders them."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl IS NOT HERE: the overlay was NOT RENDERED")
    overlays = (folder / "overlays" / "example", folder / "overlays" / "example" / "migration")
    found = []
    for overlay in overlays:
        done = subprocess.run(
            [kubectl, "kustomize", str(overlay)], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        found += [one for one in yaml.safe_load_all(done.stdout) if one]
    return found


def pods(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """Yield the component and the pod specification of each Deployment and Job."""
    for one in objects:
        if one["kind"] in {"Deployment", "Job"}:
            template = one["spec"]["template"]
            yield template["metadata"]["labels"]["app.kubernetes.io/component"], template["spec"]


def containers(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """Yield the component and the specification of each container."""
    for component, pod in pods(objects):
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            yield component, container


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    """Return the objects of a kind."""
    return [one for one in objects if one["kind"] == kind]


def test_kubernetes_accepts_the_files(written: list[Object]) -> None:
    """Each object has only fields that Kubernetes knows, with values of their types."""
    kinds = {one["kind"] for one in written}
    assert kinds > {
        "Deployment",
        "Service",
        "HorizontalPodAutoscaler",
        "PodDisruptionBudget",
        "NetworkPolicy",
        "Job",
    }

    for one in written:
        if one["kind"] not in CUSTOM:
            kubernetes_validate.validate(one, KUBERNETES, strict=True)


def test_kubernetes_accepts_the_overlay(rendered: list[Object]) -> None:
    """The same holds for what kustomize makes of them, and every reference leads to an object."""
    for one in rendered:
        assert one.get("metadata", {}).get("namespace") == "otpqueue"
        if one["kind"] not in CUSTOM:
            kubernetes_validate.validate(one, KUBERNETES, strict=True)
    names = {(one["kind"], one["metadata"]["name"]) for one in rendered} | {("Secret", "otpqueue-secrets")}
    wanted = set()
    for _, container in containers(rendered):
        assert container["image"].startswith("registry.example.com/otpqueue:")
        for source in container["envFrom"]:
            wanted |= {("ConfigMap", source.get("configMapRef", {}).get("name"))}
            wanted |= {("Secret", source.get("secretRef", {}).get("name"))}
    wanted |= {("ServiceAccount", pod.get("serviceAccountName")) for _, pod in pods(rendered)}
    for scaler in of_kind(rendered, "HorizontalPodAutoscaler") + of_kind(rendered, "ScaledObject"):
        wanted.add(("Deployment", scaler["spec"]["scaleTargetRef"]["name"]))
    assert {(kind, name) for kind, name in wanted if name} - names == set()


def test_every_process_has_a_valid_command(written: list[Object]) -> None:
    """The containers run commands that exist; together they serve every queue, with one beat."""
    queues: list[str] = []
    ran = []
    for _, container in containers(written):
        ran.append(container["args"][1])
        queues += parse_command(container["args"]).get("queues", "").split(",")

    assert sorted(ran) == ["api", "beat", "migrate", "provision", "worker", "worker"]
    assert sorted(filter(None, queues)) == sorted(jobs.QUEUES)
    (beat,) = (one for one in of_kind(written, "Deployment") if one["metadata"]["name"] == "otpqueue-beat")
    assert beat["spec"]["replicas"] == 1
    assert beat["spec"]["strategy"] == {"type": "Recreate"}


def test_environment_is_valid(written: list[Object], folder: Path) -> None:
    """Variables, the example's settings and its secrets are settings of otpqueue, with valid values."""
    settings = yaml.safe_load((folder / "overlays/example/settings/kustomization.yaml").read_text())
    literals = settings["configMapGenerator"][0]["literals"]
    shared = dict(line.split("=", 1) for line in literals)
    secrets = re.findall(
        r"^(\w+)=", (folder / "overlays/example/secrets.env.example").read_text(), re.MULTILINE
    )
    assert sorted(secrets) == sorted(SECRETS)

    for _, container in containers(written):
        current = check_settings(shared | {one["name"]: one["value"] for one in container.get("env", ())})
        for needed in ("database_url", "redis_url", "infobip_base_url", "infobip_api_key"):
            current.require(needed)


def test_probes_and_ports_are_true(written: list[Object], make_parts: MakeParts) -> None:
    """Probes ask the process's own port for a path that answers 200 without a log-in."""
    parts = make_parts()
    client = falcon.testing.TestClient(create_app(parts))
    probed = {}
    for component, container in containers(written):
        ports = {one["name"]: one["containerPort"] for one in container.get("ports", ())}
        env = {one["name"]: one["value"] for one in container.get("env", ())}
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            if probe := container.get(kind):
                probed[component, kind] = probe["httpGet"]["path"]
                expected = Settings.model_fields["port"].default
                if component.startswith("worker"):
                    expected = int(env["OTPQUEUE_WORKER_METRICS_PORT"])
                assert ports[probe["httpGet"]["port"]] == expected

    assert set(probed) == {
        *(("api", kind) for kind in ("startupProbe", "livenessProbe", "readinessProbe")),
        *(
            (name, kind)
            for name in ("worker-send", "worker-periodic")
            for kind in ("startupProbe", "livenessProbe")
        ),
    }
    for (component, _), path in probed.items():
        if component == "api":
            assert client.simulate_get(path).status_code == 200, path
        else:
            assert path == LIVE_PATH


def test_processes_have_time_to_finish(written: list[Object]) -> None:
    """Kubernetes waits longer for a worker than the worker for its sends."""
    within_s = Settings.model_fields["stop_within_s"].default

    graces = {component: pod.get("terminationGracePeriodSeconds") for component, pod in pods(written)}
    assert graces["worker-send"] > within_s
    assert graces["worker-periodic"] > within_s
    assert graces["api"] > 30 + 5


def test_pods_are_restricted(written: list[Object]) -> None:
    """No pod runs as root, writes to its image, gets a token of the cluster or may use all memory."""
    for component, pod in pods(written):
        assert pod["securityContext"]["runAsNonRoot"] is True, component
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
    for component, container in containers(written):
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True, component
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container["resources"]["limits"]
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}
        assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]  # noqa: S108 - in a container


def test_selectors_find_pods(written: list[Object]) -> None:
    """Services, budgets and policies select pods of a component; every component but beat has a budget."""
    components = {component for component, _ in pods(written)}
    budgets = {
        one["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"]
        for one in of_kind(written, "PodDisruptionBudget")
    }
    assert budgets == components - {"beat", "migrate"}
    for service in of_kind(written, "Service"):
        assert service["spec"]["selector"]["app.kubernetes.io/component"] in components


def test_policies_allow_the_ports(written: list[Object]) -> None:
    """Ingress is allowed to the ports of API and workers, and nothing else."""
    open_ports = {
        policy["metadata"]["name"]: [
            port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]
        ]
        for policy in of_kind(written, "NetworkPolicy")
        if "ingress" in policy["spec"]
    }
    served = {
        component: [port["containerPort"] for port in container.get("ports", ())]
        for component, container in containers(written)
    }
    assert open_ports == {"otpqueue-api": served["api"], "otpqueue-workers": served["worker-send"]}


def test_autoscaler_uses_metrics_of_otpqueue(written: list[Object]) -> None:
    """The triggers of KEDA are strings, and query metrics and jobs that exist."""
    (scaled,) = of_kind(written, "ScaledObject")
    page = metrics_page.render_page().decode()

    assert scaled["spec"]["minReplicaCount"] <= scaled["spec"]["maxReplicaCount"]
    for trigger in scaled["spec"]["triggers"]:
        assert trigger["type"] == "prometheus"
        assert set(trigger["metadata"]) == {"serverAddress", "query", "threshold", "ignoreNullValues"}
        assert all(isinstance(value, str) for value in trigger["metadata"].values())
        float(trigger["metadata"]["threshold"])
        names = re.findall(r"otpqueue_\w+", trigger["metadata"]["query"])
        assert names
        assert [
            name for name in names if f"# TYPE {name} " not in page and name not in _SERVICE_METRICS
        ] == []


_SERVICE_METRICS = {"otpqueue_queue_oldest_due_age_seconds"}
"""Metrics that the API reads from Postgres during a scrape."""


def test_scraping_is_accepted_over_plain_http(folder: Path, make_parts: MakeParts) -> None:
    """Prometheus reads `/metrics` of a pod with the header of its scrape job, and not without it."""
    jobs_ = {one["job_name"]: one for one in yaml.safe_load((folder / "scrape.yml").read_text())}
    token = SECRETS["OTPQUEUE_METRICS_TOKEN"]
    parts = make_parts(
        OTPQUEUE_REQUIRE_HTTPS="true", OTPQUEUE_TRUSTED_PROXIES="127.0.0.0/8", OTPQUEUE_METRICS_TOKEN=token
    )
    client = falcon.testing.TestClient(create_app(parts))
    headers = {"Authorization": f"Bearer {token}"}
    (scheme,) = jobs_["otpqueue-api"]["http_headers"]["X-Forwarded-Proto"]["values"]

    assert client.simulate_get("/metrics", headers=headers).status_code == 403
    page = client.simulate_get("/metrics", headers=headers | {"X-Forwarded-Proto": scheme})
    assert page.status_code == 200
    assert all(f"# TYPE {name} " in page.text for name in _SERVICE_METRICS)
    assert set(jobs_) == {"otpqueue-api", "otpqueue-worker"}
