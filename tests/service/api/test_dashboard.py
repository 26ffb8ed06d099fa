"""The page of an operator: its files, the events that it shows, and the page in a real browser."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from litestar import Litestar
from litestar.testing import TestClient
from numpy.typing import NDArray

from benchmarks.load.formats import RAW
from service.api.app import create_app
from service.metrics.activity import add_up
from service.metrics.counters import Metrics
from service.metrics.rows import SECONDS, SharedRow, create_rows, open_rows
from service.settings import Settings
from tests.artefacts import sample_events
from tests.browser import CHROMIUM, Page, browser
from tests.live import TIMEOUT_S, LiveService, live_service
from tests.service.drift.models import artefact, drifted_events
from tests.service.drift.serving import serving

Client = TestClient[Litestar]
MODEL = artefact()
HEADERS = {"Content-Type": RAW.media_type}


@pytest.fixture
def fresh() -> Iterator[Client]:
    """Serve a model with reference histograms, without earlier requests."""
    with TestClient(create_app(Settings(), MODEL).main) as client:
        yield client


def state(text: str) -> Any:
    """Read the state from one whole server-sent event."""
    retry, data, *end = text.split("\n")
    assert (retry, end) == ("retry: 2000", ["", ""])
    return json.loads(data.removeprefix("data: "))


def test_the_page_runs_its_own_files_alone(fresh: Client) -> None:
    """Its policy allows no other host and nothing inline, and it has nothing inline; it is not framed or cached."""
    page = fresh.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    docs = fresh.get("/docs").headers
    without_hash = re.sub(r" 'sha256-[^']*'", "", docs["content-security-policy"])
    assert page.headers["content-security-policy"] == without_hash
    protective = ("x-frame-options", "cross-origin-opener-policy", "referrer-policy", "x-content-type-options")
    assert {name: page.headers[name] for name in protective} == {name: docs[name] for name in protective}
    assert page.headers["cache-control"] == "no-store"
    assert not re.search(r"<style|<script>|\s(style|on\w+)=|https?:|\"/", page.text)
    for file, kind in re.findall(r'"(dashboard/page\.(css|js))"', page.text):
        response = fresh.get(f"/{file}")
        assert response.headers["content-type"].startswith("text/")
        assert response.headers["x-content-type-options"] == "nosniff"
        assert kind in file
        assert "http" not in response.text.replace("http://www.w3.org/2000/svg", "")


def test_the_script_knows_the_elements_of_the_page() -> None:
    """Every element that the script looks up by its id is on the page, once."""
    folder = files("service.api.dashboard")
    ids = re.findall(r'id="([^"]+)"', (folder / "page.html").read_text())
    assert len(ids) == len(set(ids))
    looked_up = set(re.findall(r'(?:find|fill|verdict|canvas)\("([^"]+)"', (folder / "page.js").read_text()))
    charts = set(re.findall(r'sparkline\("([^"]+)"', (folder / "page.js").read_text()))
    assert looked_up | charts | {f"{chart}-now" for chart in charts} <= set(ids)


def test_an_event_is_the_state_of_now(fresh: Client) -> None:
    """It is one whole response that asks for the next, and has what was counted until then."""
    events = drifted_events(90)
    assert fresh.post("/score/batch", content=events.tobytes(), headers=HEADERS).status_code == 200
    assert fresh.post("/score/batch", content=b"", headers=HEADERS).status_code == 400
    response = fresh.get("/dashboard/events")
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-store"
    assert int(response.headers["content-length"]) == len(response.content)
    found = state(response.text)
    assert (found["status"], found["activity"]["events"]) == ("ok", 90)
    [route] = found["activity"]["routes"]
    assert (route["route"], route["statuses"]) == ("/score/batch", {"200": 1, "400": 1})
    assert sum(route["durations"]) == 2
    assert found["duration_bounds_s"] == list(SECONDS)
    model = found["model"]
    assert (model["identity"], model["events"], model["sampled_events"]) == (MODEL.identity, 90, 90)
    assert [point["name"] for point in model["points"]] == ["loose", "tight"]
    assert sum(model["scores"]["recent"]) == 90
    assert sum(model["scores"]["reference"]) == model["reference_events"]
    assert (model["drift"], model["quantities"]) == (None, [])


def test_an_event_has_the_verdict_and_what_it_is_of() -> None:
    """With events enough, each feature and the score have their distances."""
    with serving(MODEL) as service:
        service.send(drifted_events(4000), 80)
        model = state(service.client.get("/dashboard/events").text)["model"]
    assert model["drift"] == "strong"
    drifts = {quantity["name"]: quantity["drift"] for quantity in model["quantities"]}
    assert list(drifts) == ["anomaly score", *MODEL.metadata.feature_names]
    assert [name for name, drift in drifts.items() if drift == "strong"][-1] == "feature4"


def test_many_pages_get_the_same_event(fresh: Client) -> None:
    """It is written at most twice a second, however many pages ask."""
    first = fresh.get("/dashboard/events").content
    assert {fresh.get("/dashboard/events").content for _ in range(5)} == {first}


def test_the_state_is_that_of_all_workers() -> None:
    """Counts add up, gauges are those of living workers, and a file is in use once all use it."""
    path = create_rows(3)
    for place, accepted in ((0, True), (1, False)):
        metrics = Metrics(["/score"], SharedRow(path, place))
        metrics.note_request("/score", 200, 0.5)
        metrics.note_events(10)
        metrics.set_inflight(1, 2, 3)
        metrics.use_model(f"model@{place}")
        metrics.note_load("model")
        metrics.note_reload("model", successful=accepted)
        metrics.fold()
    rows = open_rows(path)
    found = add_up(metrics)
    assert (found.events, found.rows, found.in_flight) == (20, 3, {"requests": 2, "events": 4, "bytes": 6})
    assert [(route.route, route.statuses) for route in found.routes] == [("/score", {200: 2})]
    assert [worker.model for worker in found.workers] == ["model@0", "model@1"]
    assert not found.files["model"].accepted
    assert found.files["model"].loaded_at_s == rows["reloaded_at"][0, 2]
    assert "keys" not in found.files
    rows["pid"][1] = 0
    found = add_up(metrics)
    assert (found.events, len(found.workers), found.in_flight["requests"]) == (20, 1, 1)
    assert found.files["model"].accepted


@contextmanager
def scoring(service: LiveService, events: NDArray[np.float32]) -> Iterator[None]:
    """Send events in batches until the end of the block."""
    ends = threading.Event()

    def send() -> None:
        with httpx.Client(base_url=service.base_url, headers=HEADERS, timeout=TIMEOUT_S) as client:
            while not ends.is_set():
                assert client.post("/score/batch", content=events.tobytes()).status_code == 200
                client.post("/score/batch", content=b"")
                ends.wait(0.05)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        ends.set()
        thread.join()


def shown(page: Page, element: str) -> str:
    """Return the text of an element."""
    return str(page.evaluate(f"document.querySelector({element!r}).innerText"))


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
def test_a_browser_shows_the_page(tmp_path: Path) -> None:
    """It follows the service by itself, fits a phone, is led by the keyboard, and neither holds up nor outlives it."""
    model = tmp_path / "model.onnx"
    model.write_bytes(MODEL.graph)
    with (
        live_service(model, "--ops-port", "0", "--workers", "2", "--drain-s", "1") as service,
        browser(tmp_path / "profile") as page,
    ):
        page.open(service.events("ready")[0]["ops_url"])
        page.wait("document.querySelector('#drift .word')?.textContent === 'Too few events'")
        assert page.evaluate("document.querySelector('#quantities').hidden")
        assert "No recent events yet" in shown(page, "#scores-caption")
        assert shown(page, "#queue").startswith("In flight: 0 requests with 0 events and 0 bytes.")
        with scoring(service, sample_events(500)):
            page.wait("document.querySelector('#drift .word').textContent === 'No drift'")
            page.wait("parseFloat(document.querySelector('#events-now').value.replace(',', '')) > 500")
            assert not page.evaluate("document.querySelector('#quantities').hidden")
            assert "loose" in shown(page, "#points")
            assert "invalid request" in shown(page, "#errors")
            assert MODEL.identity in shown(page, "#model")
            assert "/score/batch" in shown(page, "#routes")
            assert len(shown(page, "#workers").strip().split("\n")) == 3
        with scoring(service, drifted_events(500, 3.0)):
            page.wait("document.querySelector('#drift .word').textContent === 'Strong drift'")
            assert "feature4" in shown(page, "#drift")
            assert "Strong drift" in str(page.evaluate("document.querySelector('[role=status]').textContent"))
        page.call("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=1, mobile=True)
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        for kind in ("keyDown", "keyUp"):
            page.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
        assert page.evaluate("document.activeElement.id") == "pause"
        for text, kind in (("\r", "keyDown"), ("", "keyUp")):
            page.call(
                "Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, text=text
            )
        page.wait("document.querySelector('#connection').textContent.startsWith('paused')")
        page.evaluate("document.querySelector('#pause').click()")
        page.wait("document.querySelector('#connection').textContent.startsWith('live')")
        assert page.errors == []
        assert service.stop() == 0
        page.wait("document.querySelector('#connection').textContent.startsWith('no response since')")
