"""Servers that die, drain, are overloaded or stopped: every event is scored once, in order, or the error says why."""

import asyncio
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import numpy as np
import pytest

from service.client import AsyncClient, Client, ClientError, Options, RefusedError, Result, UnavailableError
from tests.artefacts import sample_events
from tests.live import LiveService, live_service, wait_until
from tests.service.client.events import EVENTS, IN_PARTS, N_PARTS, ONE_BY_ONE, PART_EVENTS, check, events_with
from tests.service.client.foreign import Answer, closed_url, foreign_server
from tests.service.server.exchange import LONG_TIMEOUTS, Connection, begin

pytestmark = [pytest.mark.process, pytest.mark.slow]
SCORED = "anomaly_events_scored_total"
FEW_EVENTS = ("--max-inflight-events", str(PART_EVENTS), *LONG_TIMEOUTS)
"""Settings of a service that refuses a part while another request is in flight."""


def kill(service: LiveService) -> None:
    """Kill the service and wait for its end."""
    service.signal(signal.SIGKILL)
    service.process.wait()


def drain(service: LiveService) -> None:
    """Have the service end as it does for a restart."""
    assert service.stop() == 0


@pytest.mark.parametrize("end", [kill, drain])
def test_one_of_two_servers_ends(live: LiveService, model_path: Path, end: Callable[[LiveService], None]) -> None:
    """Parts go to both in turn; those of the server that ends in the middle of the call are scored by the other."""
    with live_service(model_path) as first:
        before = live.metrics().get(SCORED, 0)
        with Client(first.base_url, live.base_url, options=ONE_BY_ONE) as client:
            result = client.score(events_with(lambda: end(first)))
            check(result, model_path)
            assert result.counts.requests == N_PARTS + result.counts.retries
            assert result.counts.retries > 0
            assert live.metrics()[SCORED] - before == len(EVENTS) * 3 / 4
            check(client.score(EVENTS), model_path)


def test_requests_that_are_lost_with_their_server(live: LiveService, model_path: Path) -> None:
    """What a killed server had received and not answered is sent to the other."""

    async def main(first: LiveService) -> Result:
        async with AsyncClient(first.base_url, live.base_url, options=IN_PARTS) as client:
            first.signal(signal.SIGSTOP)
            scoring = asyncio.create_task(client.score(EVENTS))
            await asyncio.sleep(0.2)  # whatever has been sent by then
            kill(first)
            return await scoring

    with live_service(model_path) as first:
        result = asyncio.run(main(first))
    check(result, model_path)
    assert result.counts.retries > 0


def test_an_overloaded_server_is_left_for_the_other(live: LiveService, model_path: Path) -> None:
    """A 503 has the part sent to the other server at once, and spares the first for as long as it asks."""
    with live_service(model_path, *FEW_EVENTS) as busy, Connection(busy) as other:
        begin(other, PART_EVENTS)
        with Client(busy.base_url, live.base_url, options=ONE_BY_ONE) as client:
            started = time.monotonic()
            result = client.score(EVENTS)
            check(result, model_path)
            assert 1 <= result.counts.retries < 1 + time.monotonic() - started


def test_the_only_server_is_overloaded(model_path: Path) -> None:
    """It is asked again until it has room."""
    with live_service(model_path, *FEW_EVENTS) as busy, Connection(busy) as other:
        last = begin(other, PART_EVENTS)

        async def main() -> Result:
            async with AsyncClient(busy.base_url, options=ONE_BY_ONE) as client:
                scoring = asyncio.create_task(client.score(EVENTS))
                while busy.metrics().get("anomaly_requests_total route=/score/batch status=503", 0) == 0:
                    await asyncio.sleep(0.01)
                other.send(last)
                return await scoring

        result = asyncio.run(main())
        check(result, model_path)
        assert result.counts.retries >= 1


def test_retry_after_is_honoured() -> None:
    """The next request comes when the seconds that the server names are over, and not before."""
    good = Answer(200, {"Model-Version": "sphere@0"}, bytes(4))
    with foreign_server(Answer(503, {"Retry-After": "2"}), good) as foreign, Client(foreign.url) as client:
        client.score(EVENTS[:1])
    first_s, second_s = foreign.arrivals_s
    assert second_s - first_s >= 2


def test_retry_after_as_a_date_and_longer_than_the_call(subtests: pytest.Subtests) -> None:
    """A server that asks to wait beyond the end of the call is not waited for: the error says so at once."""
    later = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    for wait in ("3600", later):
        with (
            subtests.test(wait=wait),
            foreign_server(Answer(503, {"Retry-After": wait}, b"<html>closed for the night</html>")) as foreign,
            Client(foreign.url) as client,
            pytest.raises(UnavailableError, match=r"events\[0:2000\] not scored.*503: <html>closed for the night"),
        ):
            client.score(EVENTS)


def test_failures_of_a_proxy_are_retried_and_refusals_are_not() -> None:
    """A gateway without a server behind it may have one in a moment; a redirection or another page never scores."""
    scores = np.arange(3, dtype="<f4")
    good = Answer(200, {"Model-Version": "sphere@0"}, scores.tobytes())
    with foreign_server(Answer(502), Answer(504), Answer(429, {"Retry-After": "soon"}), good) as foreign:
        with Client(foreign.url) as client:
            result = client.score(sample_events(3))
        np.testing.assert_array_equal(result.scores, scores)
        assert (result.model, result.counts.requests, result.counts.retries) == ("sphere@0", 4, 3)
    moved = Answer(301, {"Location": "http://a/"})
    with (
        foreign_server(moved) as foreign,
        Client(foreign.url) as client,
        pytest.raises(RefusedError, match="301: Moved Permanently; check that the URL"),
    ):
        client.score(EVENTS)
    for page in (Answer(200, {}, b"welcome"), Answer(200, good.headers, scores.tobytes()[:-1])):
        with (
            foreign_server(page) as foreign,
            Client(foreign.url) as client,
            pytest.raises(ClientError, match="expected 3 float32 scores with Model-Version: check that the URL"),
        ):
            client.score(sample_events(3))


def test_no_server_at_all() -> None:
    """Retries are bounded, and the error names each server, what is wrong with it and what to do."""
    first, second = closed_url(), closed_url()
    with Client(first, second, options=Options(retries=2)) as client, pytest.raises(UnavailableError) as raised:
        client.score(EVENTS)
    for words in ("events[0:2000] not scored, with 2 retries", f"{first}: ", f"{second}: ", "start a server"):
        assert words in str(raised.value)


def test_timeouts(live: LiveService, model_path: Path) -> None:
    """A server that does not respond costs a request's timeout, and all that do not the call's."""
    impatient = Options(request_s=0.3, retries=1)
    patient = Options(request_s=2)
    with live_service(model_path) as hung:
        hung.signal(signal.SIGSTOP)
        try:
            for options, words in (
                (impatient, f"{hung.base_url}: no response within 0.3 s"),
                (Options(total_s=0.3), "0 of 2000 events scored within 0.3 s"),
            ):
                with Client(hung.base_url, options=options) as client, pytest.raises(UnavailableError, match=words):
                    client.score(EVENTS)
            with Client(hung.base_url, live.base_url, options=patient) as client:
                result = client.score(EVENTS)
                check(result, model_path)
                assert result.counts.retries >= 1
        finally:
            hung.signal(signal.SIGCONT)


def test_a_cancelled_call_ends_its_requests(model_path: Path) -> None:
    """The server sees the connections of a cancelled call end, and scores for the next."""

    async def main(service: LiveService) -> None:
        async with AsyncClient(service.base_url, options=IN_PARTS) as client:
            service.signal(signal.SIGSTOP)
            scoring = asyncio.create_task(client.score(EVENTS))
            await asyncio.sleep(0.2)
            scoring.cancel()
            with pytest.raises(asyncio.CancelledError):
                await scoring
            service.signal(signal.SIGCONT)
            check(await client.score(EVENTS), model_path)

    with live_service(model_path) as service:
        asyncio.run(main(service))
        wait_until(lambda: service.metrics()["anomaly_inflight_requests"] == 0)
