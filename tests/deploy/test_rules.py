"""The alert rules: one source, metrics that there are, and Prometheus' own tests of each alert."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.artefacts import sample_events
from tests.deploy.manifests import ROOT, read
from tests.deploy.prometheus import INSTALLED
from tests.live import live_service
from tests.service.drift.models import artefact

CASES = Path(__file__).parent / "alerts_test.yml"
DRIFT = CASES.with_name("drift_test.yml")


def groups() -> list[dict[str, Any]]:
    """Give the groups of rules."""
    found: list[dict[str, Any]] = read("components/monitoring/prometheusrule.yaml")["spec"]["groups"]
    return found


def queries() -> Iterator[str]:
    """Give every query of the manifests."""
    yield from (rule["expr"] for group in groups() for rule in group["rules"])
    for trigger in read("components/keda/scaledobject.yaml")["spec"]["triggers"]:
        if trigger["type"] == "prometheus":
            yield trigger["metadata"]["query"]


def test_the_rules_have_one_source() -> None:
    """The first group is the same wherever the service runs."""
    assert groups()[:1] == yaml.safe_load((ROOT / "deploy" / "monitoring" / "alerts.yml").read_text())["groups"]


@pytest.mark.process
def test_queries_name_metrics_that_there_are(tmp_path: Path) -> None:
    """Every metric in a query is one of a live service whose model has a reference, or one of Prometheus."""
    model = artefact()
    (tmp_path / "model.onnx").write_bytes(model.graph)
    with live_service(tmp_path / "model.onnx") as service:
        one = sample_events(1)
        features = {"name": "features", "shape": one.shape, "datatype": "FP32", "data": one.tolist()}
        path, body = f"/v2/models/{model.metadata.model_name}/infer", json.dumps({"inputs": [features]}).encode()
        assert service.post(path, body, "application/json").status_code == 200
        families = set(re.findall(r"^# TYPE (\w+)", service.get("/metrics").text, re.MULTILINE))
    named = {name for query in queries() for name in re.findall(r"\b(?:anomaly|nv)_\w+", query)}
    assert len(named) >= 8
    assert {re.sub("_(bucket|sum|count)$", "", name) if name not in families else name for name in named} <= families


def test_every_alert_has_a_firing_and_a_silent_case() -> None:
    """The cases of promtool are of all alerts."""
    alerts = [rule["alert"] for group in groups() for rule in group["rules"]]
    for case, fires in zip(yaml.safe_load(CASES.read_text())["tests"], (False, True), strict=True):
        assert [one["alertname"] for one in case["alert_rule_test"]] == alerts
        assert all(bool(one.get("exp_alerts")) is fires for one in case["alert_rule_test"])


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.skipif(not INSTALLED, reason="prometheus is not installed; on Debian: apt-get install prometheus")
def test_prometheus_takes_the_rules(tmp_path: Path) -> None:
    """Promtool accepts the rules, and each alert fires where it must alone: drift within a minute, not in an hour."""
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": groups()}))
    for cases in (CASES, DRIFT):
        shutil.copy(cases, tmp_path)
    for command in (["check", "rules", "rules.yml"], ["test", "rules", CASES.name, DRIFT.name]):
        done = subprocess.run(
            ["promtool", *command], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
