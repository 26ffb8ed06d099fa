"""Scores of a live service: those of the offline scorer, in the order of the events, however they are cut."""

import asyncio
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from service import SHIPPED_MODEL
from service.client import AsyncClient, Client, Counts, EventsError, Options, RefusedError
from service.model.artefact import Artefact, load_artefact
from service.model.scorer import Scorer
from tests.live import LiveService, live_service
from tests.service.client.events import EVENTS, IN_PARTS, N_PARTS, ONE_BY_ONE, check

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def shipped() -> Iterator[LiveService]:
    """Serve the shipped model, which gives an event the same bits in any batch."""
    with live_service(SHIPPED_MODEL) as service:
        yield service


@pytest.fixture(scope="module")
def offline() -> Scorer:
    """Open the same model here."""
    return Scorer(load_artefact(SHIPPED_MODEL))


def shipped_events(n_events: int, seed: int = 0) -> NDArray[np.float32]:
    """Draw events of the shipped model."""
    return np.random.default_rng(seed).uniform(50, 1500, (n_events, 14)).astype(np.float32)


def test_the_scores_of_a_large_array(shipped: LiveService, offline: Scorer) -> None:
    """More events than one request holds have the offline scores to the last bit, by the model that is named."""
    events = shipped_events(200_000)
    with Client(shipped.base_url) as client:
        result = client.score(events)
    np.testing.assert_array_equal(result.scores, offline.score(events))
    assert (result.model, result.working_point) == (offline.artefact.identity, None)
    assert result.counts == Counts(requests=11)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3000), st.integers(50, 4000), st.integers(2**12, 2**18), st.integers(1, 9))
def test_cutting_changes_neither_order_nor_scores(
    shipped: LiveService, offline: Scorer, n_events: int, request_events: int, request_bytes: int, in_flight: int
) -> None:
    """Every event has its own score, to the last bit, whatever the parts and however many are in flight."""
    events = shipped_events(n_events, seed=n_events)
    options = Options(request_events=request_events, request_bytes=request_bytes, in_flight=in_flight)
    with Client(shipped.base_url, options=options) as client:
        np.testing.assert_array_equal(client.score(events).scores, offline.score(events))


def test_a_working_point(live: LiveService, artefact: Artefact) -> None:
    """The result has its name, the threshold that the service sends, and what the model accepts; others are refused."""
    [loose, _] = artefact.metadata.working_points
    with Client(live.base_url, options=IN_PARTS) as client:
        result = client.score(EVENTS, working_point="loose")
        assert result.working_point is not None
        assert (result.working_point.name, result.working_point.threshold) == ("loose", loose.sent_threshold)
        np.testing.assert_array_equal(result.working_point.accepted, loose.accepts(result.scores))
        with pytest.raises(RefusedError, match="400: working_point is 'losse', expected one of loose, tight; correct"):
            client.score(EVENTS, working_point="losse")


def test_a_wrong_request_is_sent_once(live: LiveService, subtests: pytest.Subtests) -> None:
    """What the service refuses is an error that names server, part, status, its own words and the remedy; no retry."""
    with Client(live.base_url) as client:
        for events, words in (
            (np.ones((3, 6)), "refused events[0:3]: 400: the body is 72 bytes, not a whole number of events of 5"),
            (np.ones((3, 10)), "refused events[0:3]: 400: the batch has 6 events, expected 3"),
            (np.full((3, 5), 3e38), "refused events[0:3]: 400: "),
        ):
            with subtests.test(words=words):
                counted = "anomaly_requests_total route=/score/batch status=400"
                before = live.metrics().get(counted, 0)
                with pytest.raises(RefusedError) as raised:
                    client.score(events)
                assert words in str(raised.value)
                assert str(raised.value).startswith(live.base_url)
                assert raised.value.status == 400
                assert raised.value.detail in str(raised.value)
                assert live.metrics()[counted] == before + 1
        with pytest.raises(EventsError):
            client.score([[np.nan] * 5])
        assert len(client.score(EVENTS).scores) == len(EVENTS)


def test_a_path_that_is_not_the_service(live: LiveService) -> None:
    """A wrong path of the URL is named with what to check."""
    with (
        Client(f"{live.base_url}/elsewhere") as client,
        pytest.raises(RefusedError, match=r"404: .*check that the URL"),
    ):
        client.score(EVENTS)


def own_sockets() -> set[str]:
    """Return the sockets of this process, each by a number of its own."""
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the folder itself, while it was read
            found.add(str(link.readlink()))
    return {name for name in found if name.startswith("socket:")}


def test_connections_are_kept(live: LiveService) -> None:
    """Calls one after the other share a connection, which ends with the client."""
    before = own_sockets()
    with Client(live.base_url, options=ONE_BY_ONE) as client:
        client.score(EVENTS)
        opened = own_sockets()
        for _ in range(3):
            client.score(EVENTS)
            assert own_sockets() == opened
    assert own_sockets() <= before


def test_many_threads_share_a_client(shipped: LiveService, offline: Scorer) -> None:
    """Calls of several threads get the scores of their own events."""
    events = shipped_events(1000)
    expected = offline.score(events)
    wrong: list[int] = []

    def ask(place: int) -> None:
        part = slice(place * 100, place * 100 + 150)
        if not np.array_equal(client.score(events[part]).scores, expected[part]):
            wrong.append(place)

    with Client(shipped.base_url, options=Options(request_events=70)) as client:
        threads = [threading.Thread(target=ask, args=(place,)) for place in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_asyncio(live: LiveService, model_path: Path) -> None:
    """Calls of one event loop run beside each other; one that is cancelled leaves the others, and the client, alone."""

    async def main() -> None:
        async with AsyncClient(live.base_url, options=IN_PARTS) as client:
            whole, cancelled = asyncio.create_task(client.score(EVENTS)), asyncio.create_task(client.score(EVENTS))
            await asyncio.sleep(0)
            cancelled.cancel()
            result = await whole
            check(result, model_path)
            assert result.counts.requests == N_PARTS
            with pytest.raises(asyncio.CancelledError):
                await cancelled
            assert (await client.score(EVENTS)).counts.requests == N_PARTS

    asyncio.run(main())


def test_what_no_client_can_be_made_of(subtests: pytest.Subtests) -> None:
    """Wrong URLs and options are errors before anything is sent."""
    for urls in ((), ("localhost:8000",), ("ftp://a",), ("http://",), ("http://a:b",), ("unix:",), ("unix://host/a",)):
        with subtests.test(urls=urls), pytest.raises(ValueError, match=r"expected|[Pp]ort"):
            Client(*urls)
    wrong_options: tuple[dict[str, Any], ...] = (
        {"in_flight": 0},
        {"request_s": -1},
        {"retries": -1},
        {"certificate": "chain.pem"},
        {"api_key": "key\n"},
    )
    for options in wrong_options:
        with subtests.test(options=options), pytest.raises(ValueError, match=r"expected|together|api_key"):
            Options(**options)
    client = Client("http://a")
    client.close()
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.score(EVENTS)


def test_grpc_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is not installed, its URL is named with what to install."""
    monkeypatch.setitem(sys.modules, "grpc", None)
    monkeypatch.delitem(sys.modules, "service.client.open_inference", raising=False)
    with pytest.raises(ValueError, match=r"grpc://a:1 needs the package grpc: pip install 'lhc-anomaly\[grpc\]'"):
        Client("grpc://a:1")
