"""The alert rules: one source, metrics that there are, and Prometheus' own tests of each alert."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from service import SHIPPED_MODEL
from tests.deploy.manifests import ROOT, read
from tests.deploy.prometheus import INSTALLED
from tests.live import live_service

CASES = Path(__file__).parent / "alerts_test.yml"


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


def test_the_rules_are_those_of_the_example() -> None:
    """The first group is the same wherever the service runs."""
    example = yaml.safe_load((ROOT / "docs" / "examples" / "monitoring" / "alerts.yml").read_text())
    assert groups()[:1] == example["groups"]


@pytest.mark.process
def test_queries_name_metrics_that_there_are() -> None:
    """Every metric in a query is one of a live service, or one of Prometheus."""
    with live_service(SHIPPED_MODEL) as service:
        features = {"name": "features", "shape": [1, 14], "datatype": "FP32", "data": [1.0] * 14}
        body = json.dumps({"inputs": [features]}).encode()
        assert service.post("/v2/models/density/infer", body, "application/json").status_code == 200
        families = set(re.findall(r"^# TYPE (\w+)", httpx.get(f"{service.base_url}/metrics").text, re.MULTILINE))
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
    """Promtool accepts the rules, and each alert fires where it must alone."""
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": groups()}))
    (tmp_path / CASES.name).write_text(CASES.read_text())
    for command in (["check", "rules", "rules.yml"], ["test", "rules", CASES.name]):
        done = subprocess.run(
            ["promtool", *command], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
