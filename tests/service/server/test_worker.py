"""A live service: its processes, signals, sockets and log."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.artefacts import N_FEATURES, metadata, sample_events, with_metadata, write_artefact
from tests.live import LiveService, live_service, run_service, starting_service
from tests.service.formats.encodings import JSON, RAW

PATIENCE_S = 30


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _write_another(path: Path) -> Path:
    return write_artefact(path, with_metadata(model_name="another"))


def last_line(stderr: str) -> dict[str, str]:
    """Read the only line of a log, which is JSON."""
    [line] = stderr.splitlines()
    parsed: dict[str, str] = json.loads(line)
    return parsed


def score(service: LiveService) -> httpx.Response:
    """Have one event scored over a connection of its own."""
    body = JSON.write("features", sample_events(1)[0])
    return httpx.post(f"{service.base_url}/score", content=body, headers={"Content-Type": JSON.media_type})


def connect(service: LiveService) -> socket.socket:
    """Open a connection to write bytes to by hand."""
    url = httpx.URL(service.base_url)
    return socket.create_connection((url.host, url.port), timeout=PATIENCE_S)


def send_half(connection: socket.socket) -> bytes:
    """Send a request for two scores up to the middle of its body, have it in flight, and give the rest."""
    body = RAW.write("events", sample_events(2))
    lines = ["POST /score/batch HTTP/1.1", "Host: a", "Expect: 100-continue", f"Content-Type: {RAW.media_type}"]
    connection.sendall("\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode())
    assert connection.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"  # sent once the service reads the body
    connection.sendall(body[:10])
    return body[10:]


def wait_until_health_is(service: LiveService, status: int) -> httpx.Response:
    """Wait for a status of /health, and give the reply."""
    deadline = time.monotonic() + PATIENCE_S
    while (response := httpx.get(f"{service.base_url}/health")).status_code != status:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return response


def wait_until_counted(service: LiveService, n_events: int) -> None:
    """Wait until all workers together count this many events: they tell their numbers ten times a second."""
    deadline = time.monotonic() + PATIENCE_S
    while f"anomaly_events_scored_total {n_events}.0" not in httpx.get(f"{service.base_url}/metrics").text:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def wait_until_gone(pid: int) -> None:
    """Wait until the process has ended."""
    deadline = time.monotonic() + PATIENCE_S
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def service(model_path: Path) -> Iterator[LiveService]:
    """Serve for one test alone."""
    with live_service(model_path) as service:
        yield service


def test_the_log_is_json_and_says_what_is_served_where(service: LiveService) -> None:
    """Every line is JSON with a UTC time, a level and an event; the ready one has the address and the model."""
    assert score(service).status_code == 200
    [ready] = service.events("ready")
    assert ready["url"] == service.base_url
    assert ready["model"] == httpx.get(f"{service.base_url}/model").json()["identity"]
    assert (ready["workers"], ready["pid"]) == (1, service.process.pid)
    assert service.stop() == 0
    for line in service.log_lines:
        assert {"timestamp", "level", "logger", "event", "pid"} <= set(line)
        assert line["timestamp"].endswith("+00:00")
    assert service.log_lines[-1]["event"] == "stopped"


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_service_cleanly(model_path: Path, sig: signal.Signals) -> None:
    """SIGTERM and SIGINT end it with status 0, and without an error in the log."""
    with live_service(model_path) as service:
        assert score(service).status_code == 200
        service.signal(sig)
        assert service.process.wait(PATIENCE_S) == 0
        assert {line["level"] for line in service.log_lines} == {"INFO"}


@pytest.mark.parametrize(("sig", "workers"), [(signal.SIGTERM, "1"), (signal.SIGINT, "2")])
def test_a_request_in_flight_is_answered_before_the_end(model_path: Path, workers: str, sig: signal.Signals) -> None:
    """A request whose body is still arriving at the signal gets its scores, and the status is 0."""
    with live_service(model_path, "--workers", workers) as service, connect(service) as connection:
        rest = send_half(connection)
        service.signal(sig)
        service.wait_for("Shutting down")
        connection.sendall(rest)
        reply = b""
        while chunk := connection.recv(4096):
            reply += chunk
        assert reply.startswith(b"HTTP/1.1 200 OK")
        assert len(reply.partition(b"\r\n\r\n")[2]) == 2 * 4
        assert service.process.wait(PATIENCE_S) == 0
        assert {line["level"] for line in service.log_lines} == {"INFO"}


def test_a_request_that_never_ends_does_not_keep_the_service(model_path: Path) -> None:
    """After --shutdown-s the service leaves without the client that is still sending, and both are told in words."""
    with live_service(model_path, "--shutdown-s", "1") as service, connect(service) as connection:
        send_half(connection)
        assert service.stop() == 0
        reply = connection.recv(4096)
        assert reply.startswith(b"HTTP/1.1 503 Service Unavailable")
        assert b'"detail":"the service stopped before it had scored; send the request again"' in reply
        [line] = [line for line in service.log_lines if line["level"] != "INFO"]
        assert line["event"] == "Cancel 1 running task(s), timeout graceful shutdown exceeded"
        assert "exc_info" not in service.log_text


def children(pid: int) -> set[int]:
    """Find the processes that a process has started."""
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def wait_until_importing(pids: Callable[[], set[int]], count: int) -> None:
    """Wait until so many of the processes are in the middle of their imports."""
    deadline = time.monotonic() + PATIENCE_S
    while sum("_multiarray_umath" in Path(f"/proc/{pid}/maps").read_text() for pid in pids()) < count:
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize(("sig", "workers"), [(signal.SIGTERM, 2), (signal.SIGINT, 1)])
def test_a_signal_during_the_start_ends_the_service_cleanly(
    model_path: Path, workers: int, sig: signal.Signals
) -> None:
    """A signal while modules are imported is neither a death by signal nor a traceback."""
    with starting_service(model_path, "--workers", str(workers)) as service:
        wait_until_importing(lambda: {service.process.pid}, 1)
        service.signal(sig)
        assert service.process.wait(PATIENCE_S) == 0
        assert service.log_lines[-1]["event"] == "stopped"
        assert {line["level"] for line in service.log_lines} == {"INFO"}
        assert not service.events("ready")


def test_ctrl_c_while_workers_start_is_for_the_supervisor(model_path: Path) -> None:
    """A terminal sends SIGINT to every process: workers in the middle of their imports leave it to the supervisor."""
    with starting_service(model_path, "--workers", "2") as service:
        wait_until_importing(lambda: children(service.process.pid), 2)
        for pid in children(service.process.pid):
            os.kill(pid, signal.SIGINT)
        service.wait_for("ready")
        assert service.stop() == 0
        assert {line["level"] for line in service.log_lines} == {"INFO"}


def test_a_draining_service_scores_on_with_health_at_503(model_path: Path) -> None:
    """For --drain-s after SIGTERM a load balancer sees 503 and clients see scores; a second signal ends it."""
    with live_service(model_path, "--drain-s", "3600") as service:
        service.signal(signal.SIGTERM)
        health = wait_until_health_is(service, 503)
        assert health.json() == {"status_code": 503, "detail": "draining"}
        assert score(service).status_code == 200
        assert service.stop() == 0


def test_a_drain_ends_by_itself(model_path: Path) -> None:
    """The service closes once --drain-s have passed."""
    with live_service(model_path, "--drain-s", "1", "--workers", "2") as service:
        assert service.stop() == 0


def test_a_client_that_leaves_in_the_middle_is_no_error(service: LiveService) -> None:
    """A connection closed within a body is neither a 5xx in the metrics nor an error in the log."""
    with connect(service) as connection:
        send_half(connection)
    deadline = time.monotonic() + PATIENCE_S
    line = 'anomaly_requests_total{route="/score/batch",status="499"} 1.0'
    while line not in (text := httpx.get(f"{service.base_url}/metrics").text):
        assert time.monotonic() < deadline, text
    assert 'status="5' not in text
    assert service.stop() == 0
    assert {line["level"] for line in service.log_lines} == {"INFO"}


def test_a_body_in_chunks_is_read_up_to_the_limit(model_path: Path) -> None:
    """Without an announced length a body is read whole, and refused once it passes the limit."""

    def chunks(count: int) -> Iterator[bytes]:
        for _ in range(count):
            yield bytes(50_000)

    headers = {"Content-Type": RAW.media_type}
    with live_service(model_path, "--max-body-bytes", "500000") as service:
        url = f"{service.base_url}/score/batch"
        within = httpx.post(url, content=chunks(10), headers=headers)
        assert len(within.content) == 500_000 // N_FEATURES
        beyond = httpx.post(url, content=chunks(11), headers=headers)
        assert beyond.status_code == 413
        assert beyond.json()["detail"].startswith("the body is longer than 500000 bytes, expected at most 500000")
        assert score(service).status_code == 200


def test_bodies_are_not_logged(model_path: Path) -> None:
    """Neither the access log nor an error repeats what a client sent."""
    with live_service(model_path, "--access-log", "--log-level", "debug") as service:
        headers = {"Content-Type": JSON.media_type}
        httpx.post(f"{service.base_url}/score", content=b'{"features": [31337, "31337"]}', headers=headers)
        httpx.post(f"{service.base_url}/score", content=b'{"features": [3e38,31337,1,1,1]}', headers=headers)
        assert service.stop() == 0
        assert [line["path"] for line in service.events("request")] == ["/score", "/score"]
        assert "31337" not in service.log_text.replace(str(service.process.pid), "")


def test_a_model_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    """One with wrong scores ends the process with 1 and one line that says why."""
    golden = metadata().golden
    golden.anomaly_scores[0] += 1
    path = write_artefact(tmp_path / "wrong.onnx", with_metadata(golden=golden))
    ended = run_service("--model", str(path), "--port", "0", "--workers", "2")
    assert ended.returncode == 1
    line = last_line(ended.stderr)
    assert line["event"] == "cannot use the model"
    assert "does not reproduce golden pair 0" in line["detail"]


def test_files_that_cannot_be_used_are_one_line(model_path: Path, tmp_path: Path) -> None:
    """Each file of the settings that is missing or wrong ends the process with 1 and one line that says which."""
    wrong, missing = tmp_path / "wrong", tmp_path / "missing"
    wrong.write_text("nonsense\n")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    pair = ("--tls-certificate", str(wrong), "--tls-key", str(wrong))
    cases = (
        (("--model", str(tmp_path / "missing.onnx")), "cannot use the model", "No such file"),
        (("--model", __file__), "cannot use the model", "no ONNX model"),
        (("--model", str(tmp_path)), "cannot use the model", str(tmp_path)),
        (("--model", str(pipe)), "cannot use the model", str(pipe)),
        (("--model", "/dev/zero"), "cannot use the model", "/dev/zero"),
        (("--max-model-bytes", "10"), "cannot use the model", "10"),
        (("--model-sha256", "0" * 64), "cannot use the model", "0" * 64),
        (("--api-keys", str(missing)), "cannot use the keys", str(missing)),
        (("--api-keys", str(wrong)), "cannot use the keys", "line 1"),
        (pair, "cannot use the certificate", str(wrong)),
    )
    # The command one time after the other in one process, for the imports take the most of it.
    script = "import sys; from service.__main__ import main; print([main(line.split()) for line in sys.argv[1:]])"
    common = f"--model {model_path} --port 0 --workers 2 "
    lines = [common + " ".join(flags) for flags, _, _ in cases]
    ended = subprocess.run([sys.executable, "-c", script, *lines], capture_output=True, text=True, check=True)
    assert ended.stdout == f"{[1] * len(cases)}\n"
    for (_, event, reason), line in zip(cases, map(json.loads, ended.stderr.splitlines()), strict=True):
        assert line["event"] == event
        assert reason in line["detail"]


def test_a_port_of_operations_that_is_taken_is_one_line(model_path: Path) -> None:
    """It ends the process with 1 and one line that names the port and the flag."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run_service("--model", str(model_path), "--port", "0", "--ops-port", str(port))
    assert ended.returncode == 1
    line = last_line(ended.stderr)
    assert line["event"] == "cannot listen"
    assert line["detail"].startswith(f"127.0.0.1:{port}: ")
    assert "--ops-port" in line["detail"]


def test_a_full_disk_is_one_line(model_path: Path, tmp_path: Path) -> None:
    """Where the temporary directory has no room for what workers share, one line says so, and the status is 1."""
    small = tmp_path / "small"
    small.mkdir()
    mount = f"mount -t tmpfs -o size=2m tmpfs '{small}'"
    if subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let us mount a small disk")
    command = f"{mount} && exec '{sys.executable}' -m service --model '{model_path}' --port 0 --workers 2"
    env = {**os.environ, "TMPDIR": str(small)}
    ended = subprocess.run(
        ["unshare", "-m", "sh", "-c", command], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 1
    line = last_line(ended.stderr)
    assert line["event"] == "cannot keep the workers' files"
    assert str(small) in line["detail"]


def test_all_workers_answer_and_have_their_place_on_the_disk(model_path: Path, tmp_path: Path) -> None:
    """Several share the port; a disk that becomes full takes none down, for all their numbers have room.

    That there are several is said by a variable, which does what its flag does. At the end all files are gone.
    """
    with live_service(model_path, "--access-log", env={"TMPDIR": str(tmp_path), "ANOMALY_WORKERS": "2"}) as service:
        assert service.events("ready")[0]["workers"] == 2
        deadline = time.monotonic() + PATIENCE_S
        answered: set[int] = set()
        while len(answered) < 2:
            assert time.monotonic() < deadline
            assert score(service).status_code == 200
            answered = {line["pid"] for line in service.events("request")}
        assert service.process.pid not in answered
        files = list(tmp_path.glob("anomaly-workers-*/*.db"))
        assert len(files) == 12
        for path in files:
            status = path.stat()
            assert status.st_blocks * 512 >= status.st_size
        assert service.stop() == 0
        assert not list(tmp_path.glob("anomaly-*"))


@pytest.mark.parametrize(("host", "reason"), [("127.0.0.1", "in use"), ("192.0.2.1", "Cannot assign"), ("a b", "")])
def test_an_address_that_cannot_be_had_is_one_line(model_path: Path, host: str, reason: str) -> None:
    """A port that is taken and a host that is not ours end the process with 1 and one line that names them."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run_service("--model", str(model_path), "--host", host, "--port", str(port))
    assert ended.returncode == 1
    line = last_line(ended.stderr)
    assert line["event"] == "cannot listen"
    assert line["detail"].startswith(f"{host}:{port}: ")
    assert reason in line["detail"]


def test_a_wrong_setting_is_one_line() -> None:
    """A wrong flag or variable ends the process with 2 before anything is loaded."""
    for flags, env in ((["--port", "abc"], {}), ([], {"ANOMALY_PORT": "abc"})):
        ended = run_service(*flags, env=env)
        assert ended.returncode == 2
        assert ended.stderr.count("\n") == 1
        assert "is 'abc', expected a whole number from 0 to 65535" in ended.stderr


def test_help_is_printed() -> None:
    """`--help` prints the whole command line and ends with 0."""
    ended = run_service("serve", "--help")
    assert ended.returncode == 0
    assert "ANOMALY_MODEL" in ended.stdout


def test_an_address_of_version_6_is_written_as_a_url(model_path: Path) -> None:
    """The service listens on IPv6, and its URL can be used as it stands in the log."""
    if not Path("/proc/net/if_inet6").exists():
        pytest.skip("this machine has no IPv6")
    with live_service(model_path, "--host", "::1") as service:
        assert service.base_url.startswith("http://[::1]:")
        assert score(service).status_code == 200


def test_a_killed_worker_is_replaced(tmp_path: Path) -> None:
    """What it counted stays counted, and its successor serves the model that the others do, whatever lies there now."""
    path = write_artefact(tmp_path / "model.onnx")
    with live_service(path, "--workers", "2") as service:
        for _ in range(20):
            assert score(service).status_code == 200
        wait_until_counted(service, 20)
        victims = [line["pid"] for line in service.events("Application startup complete.")]
        for count, (victim, overwrite) in enumerate(zip(victims, (_empty, _write_another), strict=True), start=1):
            overwrite(path)
            os.kill(victim, signal.SIGKILL)
            died = service.wait_for("worker died; another is started", count)
            assert (died["worker"], died["exit_code"]) == (victim, -signal.SIGKILL)
            service.wait_for("Application startup complete.", 2 + count)
        assert {score(service).headers["model-version"] for _ in range(20)} == {service.events("ready")[0]["model"]}
        wait_until_counted(service, 40)
        assert service.stop() == 0


def test_the_others_serve_on_where_a_worker_cannot_start(model_path: Path) -> None:
    """A successor that dies at its start, or cannot be made, is tried again after a pause, then after a longer one."""
    with live_service(model_path, "--workers", "2") as service:
        first = children(service.process.pid)
        victim = service.wait_for("Application startup complete.", 2)["pid"]
        os.kill(victim, signal.SIGKILL)
        deadline = time.monotonic() + PATIENCE_S
        while not (replacement := children(service.process.pid) - first):
            assert time.monotonic() < deadline
        [unborn] = replacement
        allowed = limit_descriptors(service.process.pid, 10)
        os.kill(unborn, signal.SIGKILL)
        died = service.wait_for("worker cannot start; the others serve on")
        assert (died["level"], died["worker"], died["exit_code"]) == ("ERROR", unborn, -signal.SIGKILL)
        refused = service.wait_for("worker cannot start; the others serve on", 2)
        assert "raise the limits" in refused["detail"]
        assert refused["again_s"] > died["again_s"]
        limit_descriptors(service.process.pid, allowed)
        service.wait_for("Application startup complete.", 3)
        assert len(children(service.process.pid) - {victim, unborn}) == len(first)
        assert score(service).status_code == 200
        assert service.stop() == 0
        assert "Traceback" not in service.log_text


def limit_descriptors(pid: int, soft: int) -> int:
    """Let a process have so many descriptors, and give how many it might have before."""
    before, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
    return before


def test_without_workers_the_service_ends(model_path: Path, tmp_path: Path) -> None:
    """Where the disk takes no more files of metrics, the log says so, and the service ends with the last worker."""
    with live_service(model_path, "--workers", "2", env={"TMPDIR": str(tmp_path)}) as service:
        resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (2**15, 2**15))  # as a quota, for new workers
        first, last = (line["pid"] for line in service.events("Application startup complete."))
        os.kill(first, signal.SIGKILL)
        service.wait_for("worker cannot start; the others serve on")
        assert "File too large" in service.events("cannot keep the metrics")[0]["detail"]
        assert score(service).status_code == 200
        [directory] = tmp_path.glob("anomaly-workers-*")
        counting = {path.stem.rpartition("_")[2] for path in directory.iterdir()}
        assert counting == {str(first), str(last)}  # not those that could not start
        os.kill(last, signal.SIGKILL)
        assert service.process.wait(PATIENCE_S) == 1
        assert service.events("worker cannot start; all stop")


def test_workers_do_not_outlive_the_supervisor(model_path: Path) -> None:
    """When the supervisor is killed, the workers stop, and the port is free."""
    with live_service(model_path, "--workers", "2") as service:
        workers = {line["pid"] for line in service.events("Application startup complete.")}
        assert len(workers) == 2
        service.signal(signal.SIGKILL)
        service.process.wait(PATIENCE_S)
        for pid in workers:
            wait_until_gone(pid)
        with pytest.raises(httpx.ConnectError):
            score(service)


def test_warnings_are_lines_of_the_log() -> None:
    """A warning of any library, which Python prints as plain text, is JSON on stderr like all else."""
    script = (
        "import warnings; from service.logs import configure_logging; configure_logging('info'); warnings.warn('old')"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    line = last_line(ended.stderr)
    assert (line["level"], line["logger"]) == ("WARNING", "py.warnings")
    assert "UserWarning: old" in line["event"]
