"""The queue as autoscalers see it: a real Prometheus answers their queries, and what it says rises with the load."""

import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from benchmarks.load.connection import Connection, Request, encode
from benchmarks.load.open_loop import Arrivals, offer
from service import SHIPPED_MODEL
from tests.deploy.manifests import read
from tests.deploy.prometheus import INSTALLED, Prometheus, scraping
from tests.live import live_service, wait_until

pytestmark = [
    pytest.mark.process,
    pytest.mark.serial,
    pytest.mark.slow,
    pytest.mark.skipif(not INSTALLED, reason="prometheus is not installed; on Debian: apt-get install prometheus"),
]

SUPERSONIC: Final = """
sum by (release) (
    rate(nv_inference_queue_duration_us{release=~"supersonic"}[30s])
)
  /
sum by (release) (
    (rate(nv_inference_exec_count{release=~"supersonic"}[30s]) * 1000) + 0.001
)
"""
"""The query by which SuperSONIC's chart scales, for the release `supersonic`: milliseconds."""

THRESHOLD_MS: Final = 20
SEEN_S: Final = 15
"""Within how many seconds twice the load is seen."""
LOAD_S: Final = 10
EVENTS: Final = 1_000


def test_twice_the_load_is_seen_and_its_end_too(tmp_path: Path) -> None:
    """SuperSONIC's query and KEDA's are below the threshold at a third of the capacity, and above at twice of it."""
    triggers = read("components/keda/scaledobject.yaml")["spec"]["triggers"]
    [keda] = [one["metadata"] for one in triggers if one.get("name") == "queue"]
    assert float(keda["threshold"]) == THRESHOLD_MS
    queries = (SUPERSONIC, keda["query"])
    with (
        live_service(SHIPPED_MODEL) as service,
        scraping(tmp_path, service.base_url, {"release": "supersonic"}) as seen,
    ):
        request = batches(service.base_url)
        with Connection(service.base_url) as connection:
            began_s = time.monotonic()
            for _ in range(500):
                connection.ask(request.data)
            capacity_per_s = 500 / (time.monotonic() - began_s)
        offer([service.base_url], request, Arrivals.evenly(capacity_per_s / 3, 10), connections=4)
        for query in queries:
            value = seen.ask(query)
            assert value is not None
            assert value < THRESHOLD_MS
        with ThreadPoolExecutor(1) as thread:
            twice = Arrivals.evenly(2 * capacity_per_s, LOAD_S)
            load = thread.submit(offer, [service.base_url], request, twice, connections=256)
            for query in queries:
                wait_until(partial(_is_above, seen, query, True), SEEN_S)
            load.result()
        for query in queries:
            wait_until(partial(_is_above, seen, query, False), 90)


def batches(url: str) -> Request:
    """Prepare requests for the scores of many events, which get what the first one gets."""
    body = np.random.default_rng(1).uniform(50, 1500, (EVENTS, 14)).astype("<f4").tobytes()
    data = encode(url, "POST", "/v2/models/density/infer", {"Inference-Header-Content-Length": "0"}, body)
    with Connection(url) as connection:
        response = connection.ask(data)
    assert response.status == 200
    return Request.exact("batch", data, response.body)


def _is_above(prometheus: Prometheus, query: str, expected: bool) -> bool:
    value = prometheus.ask(query)
    return value is not None and (value > THRESHOLD_MS) is expected
