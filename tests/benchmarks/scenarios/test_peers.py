"""The peers: what can be tested without installing any, and our own service as a peer."""

import json
import re
import shutil
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest

from benchmarks.load.scoring import ScoringRequest
from benchmarks.load.tensors import BINARY_TENSOR, HEAD_BYTES, TENSOR
from benchmarks.peers.catalogue import PEERS
from benchmarks.peers.environment import BUN, install, installed_versions
from benchmarks.peers.formats import BASE64, INSTANCES, OTHER_RAW
from benchmarks.peers.process import PORTS, is_stopped, reserve_ports
from benchmarks.report import results
from benchmarks.report.measurements import CaseResult, CaseRun, PeerResult
from benchmarks.report.results import OURS, Peers
from benchmarks.report.tables import page
from benchmarks.scenarios.cases import Workload
from benchmarks.scenarios.peers import CASES, GRPC_CASES, MeasuredPeer

EVENTS = np.arange(28, dtype=np.float32).reshape(2, 14) / np.float32(3)
SCORES = np.array([0.1, 20.5], np.float32)
SERVERS = Path("benchmarks/peers/servers")


def test_every_peer_has_a_server_pinned_packages_and_a_route_for_each_case(subtests: pytest.Subtests) -> None:
    """Each is asked about the very numbers that the others are."""
    for key, peer in PEERS.items():
        with subtests.test(msg=key):
            assert peer.notes.endswith(".")
            assert all(re.fullmatch(r"[\w.\[\]-]+==[\d.]+", package) for package in peer.packages)
            for module in re.findall(r"benchmarks\.peers\.servers\.(\w+)", peer.arguments):
                assert (SERVERS / f"{module}.py").exists()
            assert (peer.interpreter == BUN) == ("bun" in peer.arguments)
            assert "{port}" in peer.arguments
            assert "{model}" in peer.arguments + "".join(peer.environment.values())
            assert peer.routes.keys() == {name.partition("-")[0] for name in CASES}
            for kind in ("single", "json"):
                single = kind == "single"
                events = EVENTS[:1] if single else EVENTS
                request = ScoringRequest.of(peer.routes[kind].fmt, events, single=single, path=peer.routes[kind].path)
                numbers = [float(text) for text in re.findall(rb"\d+\.\d+", request.body)]
                np.testing.assert_array_equal(np.array(numbers, np.float32), events.ravel())


def test_only_what_speaks_grpc_is_called(model: Path) -> None:
    """A table of calls has our own service and the three servers of that protocol."""
    assert [key for key, peer in PEERS.items() if peer.speaks_grpc] == [OURS, "kserve", "mlserver", "pytriton"]
    workload = Workload(str(model.resolve()))
    for key, calls in (("kserve", GRPC_CASES), ("bun", ())):
        names = [case.name for case in MeasuredPeer(key, workload, (0, 1)).cases]
        assert names == [*CASES, *calls]


def test_formats_of_peers_are_read_as_scores(subtests: pytest.Subtests) -> None:
    """Tensors in JSON and in binary, predictions, raw float32 and base64 become the same array."""
    output = {"name": "anomaly_score", "parameters": {"binary_data_size": SCORES.nbytes}}
    for fmt, body in (
        (TENSOR, b'{"outputs": [{"data": [0.1, 20.5]}]}'),
        (BINARY_TENSOR, json.dumps({"outputs": [output]}).encode() + SCORES.tobytes()),
        (BASE64, b'{"float32": "zczMPQAApEE="}'),
        (INSTANCES, b'{"predictions": [0.1, 20.5]}'),
        (OTHER_RAW, SCORES.tobytes()),
    ):
        with subtests.test(msg=fmt.name):
            np.testing.assert_array_equal(fmt.read("anomaly_scores", body).astype(np.float32), SCORES)


def test_binary_tensors_follow_a_head_of_the_length_that_the_header_names() -> None:
    """A request is JSON and then nothing but the events' bytes."""
    body = BINARY_TENSOR.write("events", EVENTS)
    assert BINARY_TENSOR.headers == (("Inference-Header-Content-Length", str(HEAD_BYTES)),)
    (tensor,) = json.loads(body[:HEAD_BYTES])["inputs"]
    assert (tensor["shape"], tensor["parameters"]["binary_data_size"]) == ([2, 14], EVENTS.nbytes)
    assert body[HEAD_BYTES:] == EVENTS.tobytes()


def result(name: str, rate: float, p99_ms: float = 2.0, cpu_s: float | None = None) -> PeerResult:
    """Make the result of a peer that was asked for single events and for batches of ten, each in one run."""
    cases = {
        "single-32": CaseResult("single-32", name, "JSON", 1, 32, [CaseRun(rate, rate, 1, p99_ms, 3, cpu_s, None)]),
        "json-10": CaseResult("json-10", name, "JSON", 10, 4, [CaseRun(rate / 5, 2 * rate, 1, 2, 3, cpu_s, None)]),
    }
    return PeerResult(name, "As advised.", {"web": "1.0"}, None, cases)


def test_the_page_admits_its_bias_first_and_names_the_faster() -> None:
    """The page opens with who wrote it, then shows losses as plainly as the reason why a peer is missing."""
    failed = PeerResult("C", "As advised.", {}, "no wheel", {})
    peers = {OURS: result("we", 100), "b": result("B", 200, p99_ms=1.0), "c": failed}
    found = msgspec.structs.replace(results.read(Peers), peers=peers)
    text = page(found)
    assert text.split("\n\n")[2].startswith("We wrote one of the servers")
    assert "B has a higher rate in single-32; B has a shorter p99 latency in single-32" in text
    assert "|  | single-32 | json-10 |" in text
    assert "| B | 0.5 | 0.5 |" in text
    assert "| C |" not in text
    assert "| B | 200 | 200 | 1 | 1 | 3 | 0.5 |" in text  # what no peer has is no column
    assert "- Not measured: C: no wheel" in text
    assert found.errors() == ["C: no wheel"]


def test_the_tables_have_the_processor_time_of_a_request() -> None:
    """It is that of an event times the events of a request."""
    peers = {OURS: result("we", 100, cpu_s=30), "b": result("B", 50, cpu_s=40)}
    text = page(msgspec.structs.replace(results.read(Peers), peers=peers))
    assert "|  | requests/s | CPU µs / request | events/s |" in text
    assert "| B | 50 | 40 | 50 |" in text
    assert "| B | 10 | 400 | 100 |" in text


def npm(folder: Path, text: str) -> None:
    """Write a program that is called npm."""
    folder.mkdir()
    program = folder / "npm"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)


@pytest.mark.process
def test_packages_of_npm_are_installed_once_without_their_scripts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are installed into the peer's own folder, which has the program and says the versions."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin", prepend=":")
    npm(
        tmp_path / "bin",
        'echo "$@" >> asked; mkdir -p "$3/node_modules/web"; '
        """echo '{"name": "web", "version": "1.0"}' > "$3/node_modules/web/package.json\"""",
    )
    for _ in range(2):
        program = install("one", ["web==1.0"], BUN)
    folder = tmp_path / "build/peers/one"
    (asked,) = Path("asked").read_text().splitlines()
    assert asked.split() == f"install --prefix {folder} --ignore-scripts --no-audit --no-fund web@1.0".split()
    assert program.is_relative_to(folder / "node_modules/@oven")
    assert installed_versions(program, ["web==1.0"]) == {"web": "1.0"}
    with pytest.raises(RuntimeError, match="has no other; install what is missing"):
        installed_versions(program, ["other==1.0"])


@pytest.mark.process
def test_a_peer_that_npm_cannot_install_fails_with_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So does one without npm, with the remedy."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin")
    with pytest.raises(RuntimeError, match="npm is not installed; on Debian"):
        install("one", ["web==1.0"], BUN)
    npm(tmp_path / "bin", "echo no such package; exit 1")
    with pytest.raises(RuntimeError, match=r"^not installed: no such package$"):
        install("one", ["web==1.0"], BUN)


@pytest.mark.process
@pytest.mark.parametrize(
    ("executable", "words"),
    [
        ("/bin/false", "^/bin/false -m pip list .* ends with status 1, expected 0$"),
        (sys.executable, "has no no-package;"),
    ],
)
def test_one_peer_without_pip_does_not_end_the_run(executable: str, words: str) -> None:
    """The error is one that a peer may fail with: the others are measured all the same."""
    with pytest.raises(RuntimeError, match=words):
        installed_versions(Path(executable), ["no-package==1.0"])


def test_ports_are_given_once() -> None:
    """Two runs on one machine do not ask each other's servers."""
    with reserve_ports() as one, reserve_ports() as other:
        assert abs(one.getsockname()[1] - other.getsockname()[1]) > PORTS


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_a_peer_is_right_paused_between_runs_and_gone_at_the_end(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer's server gives the scorer's scores on one core, stands still when paused, and leaves no process."""
    monkeypatch.setattr("benchmarks.scenarios.peers.CASES", ("single-1", "json-10", "binary-10"))
    calls = GRPC_CASES if shutil.which("h2load") else ()
    monkeypatch.setattr("benchmarks.scenarios.peers.GRPC_CASES", calls)
    peer = MeasuredPeer(OURS, Workload(str(model.resolve())), (0, 1))
    try:
        peer.attempt(peer.start)
        assert peer.failure is None
        (process,) = peer.server.processes()
        assert is_stopped(process)
        peer.attempt(partial(peer.measure, 1))
        assert peer.failure is None
        cases = peer.result().cases
        assert cases.keys() == {"single-1", "json-10", "binary-10", *calls}
        assert all((run.cpu_s_per_million_events or 0) > 0 for case in cases.values() for run in case.runs)
        peer.cases = [replace(case, scores=2 * case.scores) for case in peer.cases]
        monkeypatch.setattr("benchmarks.scenarios.peers.START_S", 0)
        peer.attempt(partial(peer.measure, 1))
        assert re.search(r"single-1: score 0 is .*, expected", peer.failure or "")
        assert peer.result().cases == {}
    finally:
        peer.stop()
    assert peer.server.processes() == []
