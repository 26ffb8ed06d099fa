"""A Prometheus of its own, which scrapes services of the tests."""

import json
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from benchmarks.targets.launcher import starting
from tests.live import TIMEOUT_S, wait_until

INSTALLED = shutil.which("prometheus") is not None and shutil.which("promtool") is not None


class Prometheus:
    """A running Prometheus."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, query: str) -> float | None:
        """Give the value of a query, None for an empty answer."""
        values = self.ask_all(query)
        assert len(values) <= 1, values
        return values[0] if values else None

    def ask_all(self, query: str) -> list[float]:
        """Give the values of a query, one for each series."""
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": query}, timeout=TIMEOUT_S).json()
        assert answer["status"] == "success", answer
        return [float(one["value"][1]) for one in answer["data"]["result"]]


@contextmanager
def scraping(folder: Path, url: str, labels: Mapping[str, str]) -> Iterator[Prometheus]:
    """Scrape /metrics of a service every second until the end of the block, with these labels; ready at its start."""
    target = {"targets": [urlsplit(url).netloc], "labels": dict(labels)}
    job = {"job_name": "lhc-anomaly", "static_configs": [target]}
    configuration = folder / "prometheus.yml"
    configuration.write_text(json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": [job]}))
    with running(configuration, folder / "tsdb") as prometheus:
        yield prometheus


@contextmanager
def running(configuration: Path, storage: Path) -> Iterator[Prometheus]:
    """Run Prometheus with a configuration until the end of the block; at its start it has scraped its one target."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    command = ["prometheus", f"--config.file={configuration}", f"--storage.tsdb.path={storage}"]
    with starting([*command, f"--web.listen-address={address}"]):
        prometheus = Prometheus(f"http://{address}")
        wait_until(lambda: _ready(prometheus) and prometheus.ask("up") == 1)
        yield prometheus


def _ready(prometheus: Prometheus) -> bool:
    try:
        return httpx.get(f"{prometheus.url}/-/ready", timeout=TIMEOUT_S).status_code == 200
    except httpx.TransportError:
        return False
