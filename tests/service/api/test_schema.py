"""Right and wrong requests made from the OpenAPI document get the responses that it lists."""

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.live import LiveService, live_service

CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
    "negative_data_rejection",
    "ignored_auth",
]
RUN_S = 300
N_OPERATIONS = 21

pytestmark = [pytest.mark.process, pytest.mark.slow]


def run_schemathesis(service: LiveService, directory: Path, *more: str) -> str:
    """Run Schemathesis against a live service and return its report; raises AssertionError with it if a check fails."""
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{service.base_url}/schema/openapi.json"),
            *("--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing", "--mode", "all"),
            *("--seed", "1", "--generation-deterministic", "--max-examples", "25", "--no-shrink", "--no-color"),
            *("--request-timeout", "60", "--continue-on-failure", *more),
        ],
        env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.service.api.schema_media", "PYTHONPATH": str(Path.cwd())},
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_every_response_is_one_that_the_document_lists(tmp_path: Path, live: LiveService) -> None:
    """Of requests drawn from the description, none gets a 5xx or what it does not list, and no wrong one a 200."""
    report = run_schemathesis(live, tmp_path)
    assert f"Tested: {N_OPERATIONS}" in report, report
    assert httpx.get(f"{live.base_url}/health").status_code == 200


def test_no_route_answers_without_a_key(tmp_path: Path, model_path: Path) -> None:
    """With API keys, the description says so, and requests with none or a made one get the 401 that it lists."""
    added = subprocess.run(
        [sys.executable, "-m", "service", "keys", "add", "tester", str(tmp_path / "keys")],
        capture_output=True,
        text=True,
        check=True,
    )
    [key] = re.findall(r"^\S{40,}$", added.stdout, re.MULTILINE)
    with live_service(model_path, "--api-keys", str(tmp_path / "keys")) as service:
        report = run_schemathesis(
            service,
            tmp_path,
            *("--header", f"Authorization: Bearer {key}", "--phases", "fuzzing", "--max-examples", "5"),
        )
        assert f"Tested: {N_OPERATIONS}" in report, report
        url = f"{service.base_url}/schema/openapi.json"
        assert httpx.get(url).status_code == 401
        described = httpx.get(url, headers={"Authorization": f"Bearer {key}"}).json()["paths"]
    keyed = {path for path, item in described.items() for operation in item.values() if "401" in operation["responses"]}
    assert keyed == described.keys() - {"/health", "/v2/health/live", "/v2/health/ready"}
