"""Where no server is available the same model scores in this process, if it was asked for."""

import signal
from pathlib import Path

import numpy as np
import pytest

from service.client import Client, ClientError, ModelError, Options, UnavailableError
from tests.live import LiveService, live_service
from tests.service.client.events import EVENTS, HALF, PART_EVENTS, check, events_with
from tests.service.client.foreign import closed_url
from tests.service.reload.models import Made, make

pytestmark = [pytest.mark.process, pytest.mark.slow]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Made]:
    """Make two models with scores of their own."""
    folder = tmp_path_factory.mktemp("models")
    return [make(folder / f"model{place}.onnx", 4.0**place) for place in range(2)]


def options(fallback: Path) -> Options:
    """Return options with a fallback, and so few retries that it is soon used."""
    return Options(request_events=PART_EVENTS, in_flight=1, retries=1, fallback=fallback)


def test_both_servers_dead(models: list[Made]) -> None:
    """All events are scored as a service would, with the working point; the next call asks each server once more."""
    first, second = models
    with Client(closed_url(), closed_url(), options=options(first.path)) as client:
        for requests in (2, 2):
            result = client.score(EVENTS, working_point="tight", model=first.identity)
            check(result, first.path)
            assert (result.model, result.counts.local) == (first.identity, len(EVENTS))
            assert result.counts.requests == requests
            assert result.working_point is not None
            assert result.working_point.threshold == 8.0
            np.testing.assert_array_equal(result.working_point.accepted, result.scores > 8)
        with pytest.raises(ModelError, match=f"is {first.identity}, expected {second.identity}: give the file"):
            client.score(EVENTS, model=second.identity)
        with pytest.raises(ClientError, match="working_point is 'losse', expected one of loose, tight"):
            client.score(EVENTS, working_point="losse")
        with pytest.raises(ClientError, match=r"expected \(n, 5\)"):
            client.score(np.ones((2, 6)))


def kill(service: LiveService) -> None:
    """Kill the service and wait for its end."""
    service.signal(signal.SIGKILL)
    service.process.wait()


def test_a_server_that_dies_in_the_middle(models: list[Made]) -> None:
    """The fallback scores the parts that are left; a server that is back is used again."""
    with live_service(models[0].path) as service, Client(service.base_url, options=options(models[0].path)) as client:
        result = client.score(events_with(lambda: kill(service)))
        check(result, models[0].path)
        assert (result.counts.local, result.counts.retries) == (HALF, 1)
        with live_service(models[0].path, "--port", str(service.address[1])):
            assert client.score(EVENTS).counts.local == 0


@pytest.mark.slow
def test_a_model_that_no_server_has(models: list[Made]) -> None:
    """The fallback scores with the model that was asked for, and only then: else the servers' own model does."""
    first, second = models
    with live_service(first.path) as service, Client(service.base_url, options=options(second.path)) as client:
        result = client.score(EVENTS, model=second.identity)
        check(result, second.path)
        assert result.counts.local == len(EVENTS)
        check(client.score(EVENTS), first.path)


@pytest.mark.slow
def test_a_fallback_of_another_model(models: list[Made]) -> None:
    """Its scores are mixed neither into a call nor among calls."""
    first, second = models
    with live_service(first.path) as service, Client(service.base_url, options=options(second.path)) as client:
        for events in (events_with(lambda: kill(service)), EVENTS):
            with pytest.raises(ModelError, match=f"is {second.identity}, expected {first.identity}: give the file"):
                client.score(events)


def test_a_fallback_that_cannot_be_read(tmp_path: Path) -> None:
    """A file that is no model is named; without need it is not read."""
    (tmp_path / "model.onnx").write_text("no model")
    broken = options(tmp_path / "model.onnx")
    with Client(closed_url(), options=broken) as client, pytest.raises(ClientError, match=f"fallback {tmp_path}/model"):
        client.score(EVENTS)
    with Client(closed_url(), options=Options(retries=0)) as client, pytest.raises(UnavailableError):
        client.score(EVENTS)
