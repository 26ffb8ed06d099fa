"""The manifests of Kubernetes fit the service: rights, ports, probes, the order in which a pod ends, scaling."""

from pathlib import Path

import httpx
import pytest
import yaml

from service import SHIPPED_MODEL, __version__
from service.settings import Settings, parse_settings
from tests.deploy.manifests import (
    KUBERNETES,
    Manifest,
    base_settings,
    component_settings,
    container,
    of_kind,
    read,
    written,
)
from tests.live import live_service

SUPERSONIC = yaml.safe_load((KUBERNETES / "values-supersonic.yaml").read_text())
SUPERSONIC_GRACE_S = 60
"""How long SuperSONIC's chart gives a pod to end."""


def kserve_settings() -> Settings:
    """Read the settings of the runtime for KServe, which the service must know."""
    arguments = container(read("overlays/kserve/servingruntime.yaml"))["args"]
    return parse_settings([one.replace("{{.Name}}", "name") for one in arguments], {})


def ports(of: Manifest) -> dict[str, int]:
    """Give the ports of a container by name."""
    return {port["name"]: port["containerPort"] for port in of["ports"]}


def test_containers_have_no_rights() -> None:
    """No root, no writing, no capabilities, no calls beyond the usual; and no token of an account."""
    deployment, runtime = read("base/deployment.yaml"), read("overlays/kserve/servingruntime.yaml")
    pod, predictor = (
        deployment["spec"]["template"]["spec"],
        read("overlays/kserve/inferenceservice.yaml")["spec"]["predictor"],
    )
    for manifest, around in ((deployment, pod), (runtime, predictor)):
        rights = {**around.get("securityContext", {}), **container(manifest)["securityContext"]}
        assert rights["runAsNonRoot"] is True
        assert rights["runAsUser"] == 10001
        assert rights["readOnlyRootFilesystem"] is True
        assert rights["allowPrivilegeEscalation"] is False
        assert rights["privileged"] is False
        assert rights["capabilities"] == {"drop": ["ALL"]}
        assert rights["seccompProfile"] == {"type": "RuntimeDefault"}
        assert around["automountServiceAccountToken"] is False
        assert around["enableServiceLinks"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & around.keys()
    assert "--uid 10001" in (KUBERNETES.parents[1] / "Containerfile").read_text()


def test_images_are_of_this_version() -> None:
    """Every image has the tag of this version; none is `latest`."""
    kustomizations = [yaml.safe_load(path.read_text()) for path in KUBERNETES.rglob("kustomization.yaml")]
    images = [image for one in kustomizations for image in one.get("images", [])]
    assert {(image["name"], image["newTag"]) for image in images} == {("lhc-anomaly", __version__)}
    assert {container(one)["image"] for one in written() if one["kind"] in {"Deployment", "ServingRuntime"}} == {
        "lhc-anomaly"
    }
    assert SUPERSONIC["triton"]["image"] == f"lhc-anomaly:{__version__}"


def test_a_pod_ends_in_order() -> None:
    """It takes requests while its endpoint is removed, then ends those in flight, and only then is it killed."""
    pod = read("base/deployment.yaml")["spec"]["template"]["spec"]
    predictor = read("overlays/kserve/inferenceservice.yaml")["spec"]["predictor"]
    supersonic = parse_settings(SUPERSONIC["triton"]["args"], {})
    for settings, grace_s in (
        (base_settings(), pod["terminationGracePeriodSeconds"]),
        (kserve_settings(), predictor["terminationGracePeriodSeconds"]),
        (supersonic, SUPERSONIC_GRACE_S),
    ):
        assert settings.drain_s >= 10
        assert settings.drain_s + settings.shutdown_s < grace_s
        assert settings.workers == 1


def test_ports_are_those_of_the_settings() -> None:
    """Containers, Services and SuperSONIC's chart name the ports on which the service listens."""
    for manifest, settings in (
        (read("base/deployment.yaml"), base_settings()),
        (read("overlays/kserve/servingruntime.yaml"), kserve_settings()),
    ):
        listening = {"http": settings.port, "grpc": settings.grpc_port, "operations": settings.ops_port}
        assert ports(container(manifest)) == listening
    named = ports(container(read("base/deployment.yaml")))
    for service in of_kind("Service", written()):
        for port in service["spec"]["ports"]:
            assert port["targetPort"] == port["name"]
            assert port["port"] == named[port["name"]]
    annotations = read("overlays/kserve/servingruntime.yaml")["spec"]["annotations"]
    assert annotations["prometheus.kserve.io/port"] == str(kserve_settings().ops_port)
    supersonic = parse_settings(SUPERSONIC["triton"]["args"], {})
    assert (supersonic.port, supersonic.grpc_port, supersonic.ops_port) == (8000, 8001, 8002)  # the chart's


@pytest.mark.process
def test_probes_ask_for_what_there_is() -> None:
    """Each probe's port is the operations port, and its path is there; the health check of SuperSONIC's runs."""
    with live_service(SHIPPED_MODEL, "--ops-port", "0") as service:
        operations = service.wait_for("ready")["ops_url"]
        for manifest, settings in (
            (read("base/deployment.yaml"), base_settings()),
            (read("overlays/kserve/servingruntime.yaml"), kserve_settings()),
        ):
            one = container(manifest)
            for name in ("startupProbe", "readinessProbe", "livenessProbe"):
                asked = one[name]["httpGet"]
                assert ports(one).get(asked["port"], asked["port"]) == settings.ops_port
                assert httpx.get(f"{operations}{asked['path']}").status_code == 200
        assert httpx.get(f"{operations}/metrics").status_code == 200
        assert service.get(SUPERSONIC["triton"]["startupProbe"]["httpGet"]["path"]).status_code == 200
    [*_, command] = SUPERSONIC["triton"]["readinessProbe"]["command"]
    assert command == "healthcheck"


def test_the_memory_is_enough() -> None:
    """The limit is more than clients can make a worker hold, with TLS too, as docs/reliability.md has it."""
    one = container(read("base/deployment.yaml"))
    runtime = container(read("overlays/kserve/servingruntime.yaml"))
    assert one["resources"] == runtime["resources"]
    assert one["resources"]["limits"] == {"memory": SUPERSONIC["triton"]["resources"]["limits"]["memory"]}
    limit_bytes = int(one["resources"]["limits"]["memory"].removesuffix("Mi")) * 2**20
    plain, tls = base_settings(), parse_settings([], component_settings())
    for settings, connection_bytes in ((plain, 115e3), (tls, 0.6e6)):
        held = 1.5 * settings.max_inflight_bytes + 24 * settings.max_inflight_events
        assert 115e6 + held + connection_bytes * settings.max_connections < limit_bytes


def test_a_pod_is_killed_late_and_unready_early() -> None:
    """A pod without responses is given up after a quarter of a minute, and killed after a whole one."""
    for manifest in (read("base/deployment.yaml"), read("overlays/kserve/servingruntime.yaml")):
        one = container(manifest)
        seconds = {
            name: one[name]["periodSeconds"] * one[name]["failureThreshold"]
            for name in ("readinessProbe", "livenessProbe", "startupProbe")
        }
        assert seconds["readinessProbe"] <= 15
        assert seconds["livenessProbe"] >= 60
        assert seconds["startupProbe"] >= 60


def test_every_variable_is_a_setting() -> None:
    """What components and overlays add is known to the service; paths lie below what they mount."""
    added = component_settings()
    settings = parse_settings([], added)
    for path, component in (
        (settings.model, "model-volume"),
        (settings.api_keys, "api-keys"),
        (settings.tls_certificate, "tls"),
        (settings.tls_key, "tls"),
    ):
        patch = yaml.safe_load(read(f"components/{component}/kustomization.yaml")["patches"][0]["patch"])
        [mount] = container(patch)["volumeMounts"]
        assert path is not None
        assert mount["mountPath"] == str(Path(path).parent)
        assert mount["readOnly"] is True


def test_no_service_gives_variables_that_look_like_settings() -> None:
    """Kubernetes makes variables of the names of Services, in upper case with underscores."""
    names = [one["metadata"]["name"] for one in written() if one["kind"] in {"Service", "InferenceService"}]
    assert names
    assert not [name for name in names if name.upper().replace("-", "_").startswith("ANOMALY")]


def test_one_pod_is_left_and_the_autoscaler_may_go_further() -> None:
    """An eviction takes one pod of at least two, and applying files again leaves what the autoscaler has set."""
    [budget] = of_kind("PodDisruptionBudget", written())
    hpa = read("components/hpa/horizontalpodautoscaler.yaml")["spec"]
    keda = read("components/keda/scaledobject.yaml")["spec"]
    predictor = read("overlays/kserve/inferenceservice.yaml")["spec"]["predictor"]
    evicted = budget["spec"]["maxUnavailable"]
    assert read("base/deployment.yaml")["spec"]["replicas"] > evicted
    for least, most in (
        (hpa["minReplicas"], hpa["maxReplicas"]),
        (keda["minReplicaCount"], keda["maxReplicaCount"]),
        (predictor["minReplicas"], predictor["maxReplicas"]),
    ):
        assert evicted < least < most
    [cpu] = hpa["metrics"]
    assert cpu["resource"] == {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 65}}
    assert container(read("base/deployment.yaml"))["resources"]["requests"]["cpu"] == "1"
    for component in ("hpa", "keda"):
        [patch] = read(f"components/{component}/kustomization.yaml")["patches"]
        assert yaml.safe_load(patch["patch"]) == [{"op": "remove", "path": "/spec/replicas"}]


def test_selectors_find_the_pods() -> None:
    """The budget, the policy and the Services select the pods of the Deployment, and the autoscalers scale it."""
    deployment = read("base/deployment.yaml")
    labels = {"app.kubernetes.io/name": "lhc-anomaly"}
    [pairs] = read("base/kustomization.yaml")["labels"]
    assert pairs == {"pairs": labels, "includeTemplates": True}
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    [budget], [policy] = (of_kind(kind, written()) for kind in ("PodDisruptionBudget", "NetworkPolicy"))
    assert budget["spec"]["selector"]["matchLabels"] == labels
    assert policy["spec"]["podSelector"]["matchLabels"] == labels
    assert all(one["spec"]["selector"] == labels for one in of_kind("Service", written()))
    for path in ("components/hpa/horizontalpodautoscaler.yaml", "components/keda/scaledobject.yaml"):
        target = read(path)["spec"]["scaleTargetRef"]
        assert (target["kind"], target["name"]) == ("Deployment", deployment["metadata"]["name"])


def test_the_network_lets_in_clients_and_prometheus() -> None:
    """Clients reach HTTP and gRPC, Prometheus the operations port, and the service opens no connections."""
    policy = read("base/networkpolicy.yaml")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["egress"] == []
    clients, prometheus = policy["ingress"]
    assert [port["port"] for port in clients["ports"]] == ["http", "grpc"]
    assert [port["port"] for port in prometheus["ports"]] == ["operations"]
    monitor = read("components/monitoring/servicemonitor.yaml")["spec"]
    assert [(one["port"], one["path"]) for one in monitor["endpoints"]] == [("operations", "/metrics")]
    [common] = read("base/kustomization.yaml")["labels"]
    [scraped] = [
        one
        for one in of_kind("Service", written())
        if monitor["selector"]["matchLabels"] == {**common["pairs"], **one["metadata"].get("labels", {})}
    ]
    assert "operations" in [port["name"] for port in scraped["spec"]["ports"]]
