"""Prometheus, dashboard and compose file as they are: every query has an answer, and drift raises the alert."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from service.settings import parse_settings
from tests.artefacts import sample_events
from tests.deploy.manifests import ENVIRONMENT, ROOT
from tests.deploy.prometheus import INSTALLED, running
from tests.live import LiveService, live_service, wait_until
from tests.service.drift.models import artefact, drifted_events

MONITORING: Final = ROOT / "deploy" / "monitoring"
DASHBOARD: Final = MONITORING / "grafana" / "dashboards" / "lhc-anomaly.json"
UNIT: Final = ROOT / "deploy" / "systemd" / "lhc-anomaly.service"
FOREIGN: Final = Path(__file__).parent / "foreign"
GRAFANA_TYPES: Final = any(ENVIRONMENT.glob("lib/python3*/site-packages/grafana_foundation_sdk"))
PROVISIONED: Final = "/etc/grafana/provisioning"


def dashboard() -> dict[str, Any]:
    """Give the dashboard."""
    found: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return found


def queries() -> Iterator[tuple[str, str]]:
    """Give the queries of all panels with the panel's title, for all servers and for scrapes of five seconds."""
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"].replace("$instance", ".*").replace("$__rate_interval", "20s")


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.skipif(not INSTALLED, reason="prometheus is not installed; on Debian: apt-get install prometheus")
def test_every_query_is_answered_and_drift_is_seen(tmp_path: Path) -> None:
    """Under load each query of the dashboard gives finite numbers; drifted events raise the alert within a minute.

    The configuration, rules and dashboard are those that are shipped; the events before are as the reference's.
    """
    shutil.copytree(MONITORING, tmp_path / "monitoring")
    model = tmp_path / "model.onnx"
    model.write_bytes(artefact().graph)
    with live_service(model) as service:
        (tmp_path / "monitoring" / "targets.yml").write_text(json.dumps([{"targets": [service.base_url[7:]]}]))
        with running(tmp_path / "monitoring" / "prometheus.yml", tmp_path / "tsdb") as asked:
            for second in range(40):
                score(service, sample_events(2_000, seed=second))
                time.sleep(1)
            unanswered = [(title, query) for title, query in queries() if not answered(asked.ask_all(query))]
            assert unanswered == []
            assert asked.ask_all('ALERTS{alertname=~".*Drift"}') == []

            def is_seen() -> bool:
                score(service, drifted_events(2_000, seed=time.monotonic_ns()))
                return asked.ask_all('ALERTS{alertname="AnomalyDrift", alertstate="firing"}') == [1.0]

            wait_until(is_seen, timeout_s=60)


def score(service: LiveService, events: NDArray[np.float32]) -> None:
    """Score events by both protocols, one of them alone, and none of a wrong request."""
    raw = events.astype("<f4").tobytes()
    assert service.post("/score/batch", raw, "application/octet-stream").status_code == 200
    one = json.dumps({"features": events[0].tolist()}).encode()
    assert service.post("/score", one, "application/json").status_code == 200
    path = f"/v2/models/{artefact().metadata.model_name}/infer"
    binary = {"Inference-Header-Content-Length": "0"}
    assert service.post(path, raw, "application/octet-stream", **binary).status_code == 200
    assert service.post("/score", b"{}", "application/json").status_code == 400


def answered(values: list[float]) -> bool:
    """Tell whether there are values, and all are numbers."""
    return bool(values) and bool(np.isfinite(values).all())


def test_panels_fill_the_grid_and_have_names() -> None:
    """No two panels overlap or have one number, each has a title and a meaning, and the first row is SuperSONIC's."""
    panels = dashboard()["panels"]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        grid = panel["gridPos"]
        across, down = range(grid["x"], grid["x"] + grid["w"]), range(grid["y"], grid["y"] + grid["h"])
        cells = {(x, y) for x in across for y in down}
        assert taken.isdisjoint(cells), panel["title"]
        taken |= cells
        assert panel["title"]
        assert panel["type"] == "row" or panel["description"]
    assert len(taken) == 24 * (1 + max(y for _, y in taken))
    assert len({panel["id"] for panel in panels}) == len(panels)
    first = [(panel["type"], panel["gridPos"]["w"]) for panel in panels[1:5]]
    assert first == [("stat", 4), ("timeseries", 10), ("timeseries", 10), ("timeseries", 4)]


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.skipif(not GRAFANA_TYPES, reason="the types of Grafana are not installed: make build/deploy/ready")
def test_grafana_knows_every_key_of_the_dashboard() -> None:
    """Read by Grafana's own types and written again, nothing is missing or another value; a misspelt key would be."""
    assert known(dashboard()) == dashboard()
    misspelt = dashboard()
    misspelt["panels"][2]["options"]["legendd"] = {}
    assert known(misspelt) == dashboard()


def known(written: dict[str, Any]) -> Any:
    """Give what Grafana's types keep of a dashboard, without the defaults that they add."""
    command = [ENVIRONMENT / "bin" / "python", FOREIGN / "grafana_dashboard.py"]
    done = subprocess.run(command, input=json.dumps(written), capture_output=True, text=True, timeout=60, check=True)
    return _shared(written, json.loads(done.stdout))


def _shared(written: Any, read: Any) -> Any:
    if isinstance(written, dict) and isinstance(read, dict):
        return {key: _shared(value, read[key]) for key, value in written.items() if key in read}
    if isinstance(written, list) and isinstance(read, list) and len(written) == len(read):
        return [_shared(*both) for both in zip(written, read, strict=True)]
    return read


def test_files_of_the_compose_file_are_there() -> None:
    """Everything that is mounted exists, the service takes the settings, and Prometheus is told where it is."""
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
    services = compose["services"]
    mounted = {}
    for one in services.values():
        for volume in one.get("volumes", []):
            source, target, *_ = volume.split(":")
            if source.startswith("."):
                assert (ROOT / "deploy" / source).exists(), source
                mounted[target] = ROOT / "deploy" / source
            else:
                assert source in compose["volumes"]
    settings = parse_settings([], services["service"]["environment"])
    [targets] = yaml.safe_load(mounted["/etc/prometheus/targets.yml"].read_text())
    assert targets["targets"] == [f"service:{settings.ops_port}"]
    assert (ROOT / services["service"]["build"]["dockerfile"]).exists()
    assert mounted[PROVISIONED] == MONITORING / "grafana"
    [provider] = yaml.safe_load((DASHBOARD.parent / "provider.yml").read_text())["providers"]
    assert provider["options"]["path"] == f"{PROVISIONED}/{DASHBOARD.parent.name}"
    [source] = yaml.safe_load((MONITORING / "grafana" / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    prometheus = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    assert source["jsonData"]["timeInterval"] == prometheus["global"]["scrape_interval"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="on Debian: apt-get install docker-compose")
def test_compose_takes_its_file() -> None:
    """Compose finds nothing wrong with the file."""
    command = ["docker-compose", "--file", str(ROOT / "deploy" / "compose.yaml"), "config", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """Systemd finds nothing wrong with the unit, here with another program."""
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/lhc-anomaly/bin/lhc-anomaly", sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
