"""All events of a call are scored by one model, whatever the servers do meanwhile."""

from pathlib import Path

import pytest

from service.client import Client, ModelError
from tests.live import live_service
from tests.service.client.events import EVENTS, HALF, IN_PARTS, ONE_BY_ONE, check, events_with, reload
from tests.service.reload.models import Made, make, put

pytestmark = [pytest.mark.process, pytest.mark.slow]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Made]:
    """Make two models with scores of their own."""
    folder = tmp_path_factory.mktemp("models")
    return [make(folder / f"model{place}.onnx", 4.0**place) for place in range(2)]


@pytest.fixture
def served(models: list[Made], tmp_path: Path) -> Path:
    """Put the first of them where the service looks."""
    put(models[0], tmp_path / "served.onnx")
    return tmp_path / "served.onnx"


def test_a_model_that_is_replaced_in_the_middle(models: list[Made], served: Path) -> None:
    """The events that the old model had scored are scored again by the new one."""
    second = models[1]
    with live_service(served) as service, Client(service.base_url, options=ONE_BY_ONE) as client:
        result = client.score(events_with(reload(service, second, served)), working_point="loose")
        check(result, second.path)
        assert result.counts.rescored == HALF
        assert client.score(EVENTS, model=second.identity).counts.rescored == 0


@pytest.mark.slow
def test_a_model_that_no_server_has(models: list[Made]) -> None:
    """A call that asks for it is an error, which names what each server has instead, and what to do."""
    first, second = models
    with live_service(second.path) as service, Client(service.base_url) as client:
        words = f"{service.base_url}: its model is {second.identity}, expected {first.identity}; ask for a model"
        with pytest.raises(ModelError, match=words):
            client.score(EVENTS, model=first.identity)


@pytest.mark.slow
def test_a_call_keeps_to_its_model_while_a_server_has_it(models: list[Made], served: Path) -> None:
    """With another server that still has the model of the first part, nothing is scored again."""
    first, second = models
    with (
        live_service(first.path) as old,
        live_service(served) as service,
        Client(service.base_url, old.base_url, options=ONE_BY_ONE) as client,
    ):
        result = client.score(events_with(reload(service, second, served)))
        check(result, first.path)
        assert result.counts.rescored == 0
        assert result.counts.retries > 0


@pytest.mark.slow
def test_servers_of_different_models(models: list[Made]) -> None:
    """The first server settles the model, or the call: the answers of the other are never mixed in."""
    first, second = models
    with live_service(first.path) as one, live_service(second.path) as other:
        for urls, model in (((one, other), first), ((other, one), second)):
            with Client(*(server.base_url for server in urls), options=IN_PARTS) as client:
                for _ in range(3):
                    check(client.score(EVENTS), model.path)
        with Client(one.base_url, other.base_url) as client:
            check(client.score(EVENTS, model=second.identity), second.path)
