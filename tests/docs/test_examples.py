"""The examples run as they are."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest

from service.model.artefact import load_artefact
from service.model.scorer import Scorer
from tests.docs.pages import ROOT
from tests.live import live_service

EXAMPLES = ROOT / "docs" / "examples"
MODEL = ROOT / "exported" / "autoencoder.onnx"

pytestmark = pytest.mark.process

Run = Callable[..., str]


@pytest.fixture
def run(new_user: Path, environment: dict[str, str]) -> Run:
    """Give a function that runs a command in the folder of a new user, and gives what it printed."""

    def run(*command: str, status: int = 0) -> str:
        done = subprocess.run(
            command, cwd=new_user, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == status, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run


def test_every_example_is_listed() -> None:
    """The page of examples names each file of its folder."""
    page = (EXAMPLES / "README.md").read_text()
    endings = {".py", ".sh", ".yml", ".cpp", ".ipynb"}
    files = (path for path in EXAMPLES.rglob("*") if path.is_file() and path.suffix in endings)
    assert [path.name for path in files if str(path.relative_to(EXAMPLES)) not in page] == []


def test_the_python_client(run: Run, url: str) -> None:
    """It prints the model and two scores, the second of the more anomalous event."""
    printed = run("python", "docs/examples/client.py", url)
    found = re.fullmatch(rf"{load_artefact(MODEL).identity}: \[ *([\d.]+) +([\d.]+) *\]\n", printed)
    assert found is not None
    assert 0 < float(found[1]) < float(found[2])


def outputs(notebook: Path) -> list[tuple[str, str, str]]:
    """Give what each cell of code shows: its source, the text and the types of pictures."""
    shown = []
    for cell in json.loads(notebook.read_text())["cells"]:
        if cell["cell_type"] == "code":
            text = "".join(line for output in cell["outputs"] for line in output.get("text", ()))
            kinds = [kind for output in cell["outputs"] for kind in output.get("data", ())]
            shown.append(("".join(cell["source"]), text, " ".join(sorted(kinds))))
    return shown


@pytest.mark.slow
def test_the_notebook(run: Run, new_user: Path) -> None:
    """Executed as its page says, its cells print what they are stored with, and draw three pictures; it stays small.

    The clone stays clean: the file is as it was, and git ignores the executed one.
    """
    stored, copied = EXAMPLES / "anomalies.ipynb", new_user / "my" / "notebooks" / "anomalies.ipynb"
    copied.parent.mkdir(parents=True)
    shutil.copy(stored, copied)
    options = re.findall(r"jupyter execute (\S+) docs/examples/anomalies.ipynb", (EXAMPLES / "README.md").read_text())
    own = [f"{name}={new_user}" for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR")]
    run("env", *own, "jupyter", "execute", *options, str(copied))
    (executed,) = set(copied.parent.iterdir()) - {copied}
    assert f"/docs/examples/{executed.name}" in (ROOT / ".gitignore").read_text().splitlines()
    assert copied.read_bytes() == stored.read_bytes()
    found = outputs(executed)
    assert found == outputs(stored)
    assert [kinds for _, _, kinds in found].count("image/png text/plain") == 3
    assert stored.stat().st_size < 250_000


@pytest.mark.slow
def test_the_client_in_cpp(run: Run, url: str, tmp_path: Path) -> None:
    """It is compiled without a warning, gives the scores of the offline scorer, and the service's words on an error."""
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("there is no C++ compiler: install g++ or clang")
    probe = [compiler, "-E", "-x", "c++", "-include", "curl/curl.h", os.devnull]
    if subprocess.run(probe, capture_output=True, check=False).returncode != 0:
        pytest.skip("libcurl's headers are missing: install libcurl4-openssl-dev or libcurl-devel")
    program, events = str(tmp_path / "client"), np.random.default_rng(1).uniform(50, 1500, (300, 14)).astype("<f4")
    warnings = ("-std=c++17", "-Wall", "-Wextra", "-Werror")
    run(compiler, *warnings, "docs/examples/client.cpp", "-lcurl", "-o", program)
    for name, rows in (("good", events.tobytes()), ("bad", bytes(57))):
        (tmp_path / name).write_bytes(rows)
    printed = run("bash", "-c", f"{program} {url} < {tmp_path}/good")
    scores = np.array(printed.split(), np.float32)
    np.testing.assert_array_equal(scores, Scorer(load_artefact(MODEL)).score(events))
    printed = run("bash", "-c", f"{program} {url} < {tmp_path}/bad 2>&1", status=1)
    assert printed.startswith('error: 400: {"status_code":400,"detail":"the body is 57 bytes, not a whole number')


def test_curl(run: Run, url: str) -> None:
    """Each format gives the same score, and the wrong request its message."""
    printed = dict(line.split(": ", 1) for line in run("bash", "docs/examples/http.sh", url).splitlines())
    score = re.findall(r"[\d.]+", printed["one event"])[0]
    assert printed["health"] == '{"status":"ok"}'
    assert printed["a batch"] == f'{{"anomaly_scores":[{score},{score}],"accepted":[false,false]}}'
    assert printed["raw"] == f'{{"anomaly_scores":[{score}]}}'
    assert printed["decisions"].split() == ["0"]
    assert printed["with retries"] == printed["one event"]
    assert "events[0] has 3 features, expected 14" in printed["wrong"]


def test_a_file_in_batches(run: Run, url: str, new_user: Path) -> None:
    """More events than one request holds get the scores of the offline scorer, in their order."""
    events = np.random.default_rng(1).uniform(50, 1500, (25_000, 14)).astype(np.float32)
    np.save(new_user / "events.npy", events)
    run("python", "docs/examples/batch.py", url, "events.npy", "scores.npy")
    np.testing.assert_array_equal(np.load(new_user / "scores.npy"), Scorer(load_artefact(MODEL)).score(events))
    assert not (new_user / "scores.part").exists()


@pytest.mark.slow
def test_the_check_script(run: Run, tmp_path: Path) -> None:
    """It is content with a healthy service, and says what is wrong with a refused model or without a service."""
    served = tmp_path / "served.onnx"
    shutil.copy(MODEL, served)
    with live_service(served) as service:
        check = ("python", "docs/examples/monitoring/check.py", service.base_url)
        assert run(*check).startswith("OK: ")
        (tmp_path / "broken").write_bytes(b"no model")
        (tmp_path / "broken").rename(served)
        service.signal(signal.SIGHUP)
        service.wait_for("model refused")
        assert 'a new file was refused: anomaly_last_reload_successful{file="model"' in run(*check, status=2)
        assert service.stop() == 0
    assert run(*check, status=2).startswith("CRITICAL: ")


def test_monitoring_names_metrics_that_there_are(url: str) -> None:
    """Every metric in the table exists in the response of /metrics."""
    httpx.post(f"{url}/score/batch", content=bytes(56), headers={"Content-Type": "application/octet-stream"})
    families = set(re.findall(r"^# TYPE (\w+)", httpx.get(f"{url}/metrics").text, re.MULTILINE))
    named = set(re.findall(r"`(anomaly_\w+)", (EXAMPLES / "README.md").read_text()))
    assert len(named) >= 8
    assert named - families == set()


@pytest.mark.slow
def test_the_command_line(run: Run, new_user: Path) -> None:
    """Train, export, evaluate, score and check, from the shipped sample alone."""
    printed = run("bash", "docs/examples/command_line.sh", "out")
    assert printed.splitlines()[-1].startswith("out/mine.onnx: classic@")
    assert (new_user / "out" / "evaluation" / "model_card.md").exists()
    assert len((new_user / "out" / "scores.csv").read_text().splitlines()) == 3301


def require_base_images() -> None:
    """Skip where a base image of the Containerfile is not stored and there is no connection to its registry.

    Only then: where the registry is reached, or podman itself does not work, the test fails.
    """
    for image in re.findall(r"^ARG \w+=(\S+)$", (ROOT / "Containerfile").read_text(), re.MULTILINE):
        stored = subprocess.run(["podman", "image", "exists", image], capture_output=True, text=True, check=False)
        assert stored.returncode in {0, 1}, stored.stderr
        if stored.returncode == 0:
            continue
        pulled = subprocess.run(["podman", "pull", "--quiet", image], capture_output=True, text=True, check=False)
        if pulled.returncode != 0:
            try:
                socket.create_connection((image.partition("/")[0], 443), timeout=10).close()
            except OSError as error:
                pytest.skip(f"{image} is not stored, and its registry cannot be reached: {error}")
            pytest.fail(pulled.stderr)


@pytest.mark.slow
@pytest.mark.serial
@pytest.mark.skipif(shutil.which("podman") is None, reason="podman is not installed")
def test_the_container(environment: dict[str, str]) -> None:
    """The image is built, and a container of it scores an event."""
    require_base_images()
    command = ["bash", "docs/examples/container.sh"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stderr
    assert "anomaly_score" in done.stdout
