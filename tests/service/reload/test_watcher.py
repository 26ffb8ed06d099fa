"""Another model, other keys and another certificate, taken into use while the service runs."""

import os
import re
import signal
from pathlib import Path

import httpx
import numpy as np
import pytest
import trustme

from benchmarks.load.formats import RAW
from service.model.artefact import load_artefact
from service.security.api_keys import add_key
from tests.artefacts import RTOL, metadata, model, oracle, sample_events, with_metadata, write_artefact
from tests.live import LiveService, live_service, starting_service, wait_until
from tests.service.reload.models import EVENT, Made, make, put
from tests.service.security.certificates import CertificateFiles, client_context
from tests.service.server.exchange import LONG_TIMEOUTS, Connection, begin
from tests.service.server.processes import limit_descriptors, running, snapshots, wait_until_importing

pytestmark = pytest.mark.process
STARTED = "Application startup complete."
SUCCESSFUL = "anomaly_last_reload_successful file=model"


@pytest.fixture
def models(tmp_path: Path) -> list[Made]:
    """Make three models with scores of their own."""
    return [make(tmp_path / f"model{place}.onnx", 4.0**place) for place in range(3)]


@pytest.fixture
def served(models: list[Made], tmp_path: Path) -> Path:
    """Put the first of them where the service looks."""
    put(models[0], tmp_path / "served.onnx")
    return tmp_path / "served.onnx"


def assert_serves(service: LiveService, one: Made, **headers: str) -> None:
    """Ask so often that each worker responds, and find this model's name and score in every response."""
    for _ in range(8):
        response = service.post("/score", RAW.write("features", EVENT[0]), RAW.media_type, **headers)
        assert (response.status_code, response.headers["model-version"]) == (200, one.identity)
        assert RAW.read("anomaly_score", response.content) == pytest.approx(one.score, rel=RTOL)


def models_in_use(service: LiveService) -> set[str]:
    """Return the models that the metrics name."""
    prefix = "anomaly_model_info model="
    return {name.removeprefix(prefix) for name in service.metrics() if name.startswith(prefix)}


def reload(service: LiveService, one: Made, served: Path) -> None:
    """Put a model where the service looks, and return it."""
    put(one, served)
    service.signal(signal.SIGHUP)


def test_a_new_model_is_served_after_a_signal(models: list[Made], served: Path) -> None:
    """After SIGHUP every answer, the description and the metrics are of the new file; what was begun ends as it was."""
    old, new, newest = models
    with live_service(served, *LONG_TIMEOUTS) as service, Connection(service) as connection:
        assert_serves(service, old)
        rest = begin(connection, 2)
        since = service.metrics()["anomaly_last_reload_seconds file=model"]
        reload(service, new, served)
        loaded = service.wait_for("model loaded")
        assert (loaded["from"], loaded["to"], loaded["workers"]) == (old.identity, new.identity, 1)
        assert_serves(service, new)
        assert service.get("/model").json()["identity"] == new.identity
        description = service.get("/schema").text
        assert new.identity in description
        assert old.identity not in description
        assert models_in_use(service) == {new.identity}
        assert service.metrics()[SUCCESSFUL] == 1
        assert service.metrics()["anomaly_last_reload_seconds file=model"] > since
        connection.send(rest)
        response = connection.response()
        assert response.headers["model-version"] == old.identity
        assert np.frombuffer(response.body, "<f4") == pytest.approx(oracle(sample_events(2)), rel=RTOL)
        service.signal(signal.SIGHUP)
        assert service.wait_for("model unchanged")["model"] == new.identity
        reload(service, newest, served)
        assert service.wait_for("model loaded", 2)["to"] == newest.identity
        assert_serves(service, newest)
        assert service.stop() == 0
        assert service.log_levels == {"INFO"}


def wait_for_verifiers(service: LiveService) -> set[int]:
    """Wait for processes that verify a model, and find them."""
    found: set[int] = set()

    def there_are() -> bool:
        found.update(running(service.process.pid, b"service.reload.verification"))
        return bool(found)

    wait_until(there_are)
    return found


@pytest.mark.slow
def test_a_model_that_kills_its_verification_is_refused(models: list[Made], served: Path) -> None:
    """When the process that verifies the file dies of it, the service refuses the file and says how it ended."""
    with live_service(served) as service:
        reload(service, models[1], served)
        for pid in wait_for_verifiers(service):
            os.kill(pid, signal.SIGSEGV)
        assert "SIGSEGV" in service.wait_for("model refused")["detail"]
        assert_serves(service, models[0])
        service.signal(signal.SIGHUP)  # the file was good
        service.wait_for("model loaded")
        assert_serves(service, models[1])


@pytest.mark.slow
def test_a_replaced_worker_serves_the_newest_model(models: list[Made], served: Path) -> None:
    """A worker that dies after a reload, or during one, is replaced by one with the newest model."""
    with live_service(served, "--workers", "2") as service:
        reload(service, models[1], served)
        service.wait_for("model loaded")
        os.kill(service.wait_for(STARTED, 2)["pid"], signal.SIGKILL)
        victim = service.wait_for(STARTED, 3)["pid"]
        assert_serves(service, models[1])
        reload(service, models[2], served)
        wait_for_verifiers(service)
        os.kill(victim, signal.SIGKILL)
        assert service.wait_for("model loaded", 2)["to"] == models[2].identity
        service.wait_for(STARTED, 4)
        assert_serves(service, models[2])
        assert service.stop() == 0


@pytest.mark.slow
def test_a_worker_that_cannot_load_keeps_the_old_model(models: list[Made], served: Path) -> None:
    """Where one worker has no memory for it, the others serve the new model, and log and metrics tell; it may retry."""
    with live_service(served, "--workers", "2") as service:
        pid = service.wait_for(STARTED, 2)["pid"]
        descriptors = limit_descriptors(pid, 3)
        reload(service, models[1], served)
        assert service.wait_for("model refused")["pid"] == pid
        assert service.wait_for("model loaded")["workers"] == 1
        limit_descriptors(pid, descriptors)
        wait_until(lambda: service.metrics()[SUCCESSFUL] == 0)
        service.signal(signal.SIGHUP)
        service.wait_for("model unchanged")
        wait_until(lambda: service.metrics()[SUCCESSFUL] == 1)
        assert_serves(service, models[1])


@pytest.mark.slow
def test_a_changed_file_is_found_without_a_signal(models: list[Made], served: Path, tmp_path: Path) -> None:
    """With --watch-s a file that is half there is refused once, and taken when it is whole; keys are found as well."""
    keys = tmp_path / "keys"
    key = add_key("first", keys)
    with live_service(served, "--watch-s", "1", "--api-keys", str(keys)) as service:
        whole = models[1].path.read_bytes()
        with served.open("r+b") as written:
            written.truncate(0)
            written.write(whole[: len(whole) // 2])
            written.flush()
            service.wait_for("model refused")
            for count in (1, 2):  # it looks at all files again
                add_key(f"further{count}", keys)
                service.wait_for("keys loaded", count)
            assert_serves(service, models[0], Authorization=f"Bearer {key}")
            written.write(whole[len(whole) // 2 :])
        assert service.wait_for("model loaded")["to"] == models[1].identity
        assert_serves(service, models[1], Authorization=f"Bearer {key}")
        assert len(service.events("model refused")) == 1
        assert service.stop() == 0


OTHER_INPUTS: dict[str, tuple[dict[str, object], str]] = {
    "order": (
        {"feature_names": ["feature1", "feature0", "feature2", "feature3", "feature4"]},
        "feature 0: found feature1",
    ),
    "unit": ({"feature_units": ["GeV", "TeV", "GeV", "GeV", "GeV"]}, "feature 1: found feature1 in TeV, expected"),
    "working point": ({"working_points": metadata().working_points[:1]}, "working points: found loose, expected tight"),
}
"""Changes of a model that its clients would not notice, or could not use, with the words of the refusal."""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_model_with_other_inputs_is_refused(models: list[Made], served: Path, workers: int) -> None:
    """A reload changes neither the meaning of a client's numbers nor the names that it may ask for, unless allowed."""
    number = write_artefact(served.with_name("number.onnx"), model(metadata(6)))
    others = [(number, "features: found 6, expected 5 as in use")]
    for name, (changes, words) in OTHER_INPUTS.items():
        others.append((write_artefact(served.with_name(name), with_metadata(**changes)), words))
    with live_service(served, "--workers", str(workers)) as service:
        for count, (path, words) in enumerate(others, start=1):
            reload(service, models[0]._replace(path=path), served)
            refused = service.wait_for("model refused", count)["detail"]
            assert words in refused
            assert "restart the service to serve it, or set --reload-any-model" in refused
        assert_serves(service, models[0])
        wait_until(lambda: service.metrics()[SUCCESSFUL] == 0)
        reload(service, models[1], served)
        service.wait_for("model loaded")
    with live_service(number, "--workers", str(workers), "--reload-any-model") as service:
        reload(service, models[1], number)
        service.wait_for("model loaded")
        assert_serves(service, models[1])


@pytest.mark.slow
def test_a_pinned_digest_refuses_other_files(models: list[Made], served: Path) -> None:
    """With --model-sha256 the file of that digest is served, and no other is taken."""
    digest = load_artefact(served).sha256
    with live_service(served, "--model-sha256", digest) as service:
        reload(service, models[1], served)
        assert f"expected {digest}" in service.wait_for("model refused")["detail"]
        assert_serves(service, models[0])


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_hangup_during_the_start_or_the_drain_does_nothing(models: list[Made], served: Path, workers: int) -> None:
    """SIGHUP kills no service that starts, and starts no reload in one that is about to end."""
    with starting_service(served, "--workers", str(workers), "--drain-s", "3600") as service:
        wait_until_importing(lambda: {service.process.pid}, 1)
        service.signal(signal.SIGHUP)
        service.base_url = service.wait_for("ready")["url"]
        service.wait_for("model unchanged")
        service.signal(signal.SIGTERM)
        service.wait_until_health_is(503)
        reload(service, models[1], served)
        assert_serves(service, models[0])
        assert service.stop() == 0
        assert {line["event"] for line in service.log_lines if "model" in line["event"]} == {"model unchanged"}
        assert service.log_levels == {"INFO"}


def spoil(files: CertificateFiles, keys: Path, authority: trustme.CA) -> None:
    """Write half of a file of keys, and half of what a renewal writes."""
    keys.write_text("alice\n")
    files.renew_key_alone(authority)


def status(service: LiveService, authority: trustme.CA, key: str) -> int:
    """Score the event by a client that trusts the authority and has the key, over a connection of its own."""
    headers = {"Content-Type": RAW.media_type, "Authorization": f"Bearer {key}"}
    with httpx.Client(verify=client_context(authority)) as client:
        body = RAW.write("features", EVENT[0])
        return client.post(f"{service.base_url}/score", content=body, headers=headers).status_code


def test_keys_and_certificates_are_taken_by_the_same_signal(models: list[Made], tmp_path: Path) -> None:
    """New connections get the new certificate, requests need the new keys; wrong files are refused whole."""
    keys, authorities = tmp_path / "keys", [trustme.CA(), trustme.CA()]
    files = CertificateFiles.issue(authorities[0], tmp_path)
    old_key = add_key("old", keys)
    with live_service(models[0].path, *files.flags, "--api-keys", str(keys), "--access-log") as service:
        assert status(service, authorities[0], old_key) == 200
        assert status(service, authorities[0], "wrong") == 401
        service.wait_for("request", 2)
        lines = [(line["status"], line.get("client_name")) for line in service.events("request")]
        assert lines == [(200, "old"), (401, None)]
        spoil(files, keys, authorities[0])
        service.signal(signal.SIGHUP)
        assert str(keys) in service.wait_for("keys refused")["detail"]
        assert str(files.key) in service.wait_for("certificate refused")["detail"]
        assert status(service, authorities[0], old_key) == 200
        keys.unlink()
        new_key = add_key("new", keys)
        files.renew(authorities[1])
        service.signal(signal.SIGHUP)
        service.wait_for("keys loaded")
        service.wait_for("certificate loaded")
        assert status(service, authorities[1], new_key) == 200
        assert status(service, authorities[1], old_key) == 401
        with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
            status(service, authorities[0], new_key)
        assert service.stop() == 0
        assert "Traceback" not in service.log_text
        assert not {old_key, new_key} & set(re.findall(r"[\w-]+", service.log_text))


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_removed_key_does_not_wait_for_a_model(
    models: list[Made], served: Path, tmp_path: Path, workers: int
) -> None:
    """While a new model is being verified, a key that is taken away is refused, the last one too, and no signal lost.

    What lies at the model's path at the last signal is served in the end.
    """
    keys = tmp_path / "keys"
    old_key = add_key("old", keys)
    with live_service(served, "--api-keys", str(keys), "--workers", str(workers)) as service:

        def status(key: str) -> set[int]:
            body = RAW.write("features", EVENT[0])
            asked = [service.post("/score", body, RAW.media_type, Authorization=f"Bearer {key}") for _ in range(8)]
            return {response.status_code for response in asked}

        reload(service, models[1], served)
        [verifier] = wait_for_verifiers(service)
        os.kill(verifier, signal.SIGSTOP)
        service.wait_for("keys loaded", 1)
        keys.unlink()
        new_key = add_key("new", keys)
        reload(service, models[2], served)
        service.wait_for("keys loaded", 2)
        assert (status(old_key), status(new_key)) == ({401}, {200})
        keys.write_text("")
        service.signal(signal.SIGHUP)
        service.wait_for("no key is left")
        service.wait_for("keys loaded", 3)
        assert status(new_key) == {401}
        assert service.get("/health").status_code == 200
        last_key = add_key("last", keys)
        service.signal(signal.SIGHUP)
        service.wait_for("keys loaded", 4)
        assert status(last_key) == {200}
        assert not service.events("model loaded")
        os.kill(verifier, signal.SIGCONT)
        wait_until(lambda: models[2].identity in {loaded["to"] for loaded in service.events("model loaded")})
        assert status(last_key) == {200}
        wait_until(lambda: len(snapshots(service)) == 2)


@pytest.mark.slow
def test_a_worker_that_starts_later_has_the_keys_and_the_certificate_of_all(models: list[Made], tmp_path: Path) -> None:
    """Whatever lies there when one dies, its successor has what was accepted last, from copies that cannot be changed.

    A file of keys that is wrong and a certificate that is renewed by half would keep it from starting.
    """
    keys, authority = tmp_path / "keys", trustme.CA()
    files = CertificateFiles.issue(authority, tmp_path)
    key = add_key("old", keys)
    flags = (*files.flags, "--api-keys", str(keys), "--workers", "2")
    with live_service(models[0].path, *flags, env={"TMPDIR": str(tmp_path)}) as service:
        victims = [line["pid"] for line in service.events(STARTED)]
        for count, victim in enumerate(victims, start=1):
            spoil(files, keys, authority)
            service.signal(signal.SIGHUP)
            service.wait_for("keys refused", count)
            service.wait_for("certificate refused", count)
            os.kill(victim, signal.SIGKILL)
            service.wait_for("worker died; another is started", count)
            service.wait_for(STARTED, 2 + count)
            assert {status(service, authority, key) for _ in range(8)} == {200}
            keys.unlink()
            key = add_key("new", keys)
            files.renew(authority)
            service.signal(signal.SIGHUP)
            service.wait_for("keys loaded", count)
            service.wait_for("certificate loaded", count)
            assert {status(service, authority, key) for _ in range(8)} == {200}
        wait_until(lambda: len(snapshots(service)) == len(("model", "keys", "certificate", "key")))
        for snapshot in snapshots(service):
            with pytest.raises(PermissionError):
                snapshot.write_bytes(b"")
        with_key = [path for path in tmp_path.rglob("*") if path.is_file() and b"PRIVATE" in path.read_bytes()]
        assert with_key == [files.key]
        assert service.stop() == 0
        assert not service.events("worker cannot start; the others continue")
