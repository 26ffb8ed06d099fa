"""What workers say of themselves in /metrics."""

import pytest

from benchmarks.targets.service import read_requests, shares

METRICS = """# HELP anomaly_worker_requests Requests answered by this worker.
# TYPE anomaly_worker_requests gauge
anomaly_worker_requests{pid="123"} 456.0
anomaly_worker_requests{pid="124"} 1.2e+06
anomaly_requests_total{route="/score",status="200"} 7.0
"""


def test_the_requests_of_each_worker_are_read() -> None:
    """Each line is a worker, by its process."""
    assert read_requests(METRICS) == {123: 456, 124: 1_200_000}


def test_metrics_of_one_worker_are_no_answer() -> None:
    """Where there are no such lines, the benchmark stops and says which it needs."""
    with pytest.raises(RuntimeError, match="anomaly_worker_requests"):
        read_requests("anomaly_worker_requests 3.0\n")


def test_shares_are_what_was_answered_in_between() -> None:
    """The busiest comes first, and a worker that has answered nothing counts."""
    found = shares({1: 10, 2: 10}, {1: 10, 2: 40, 3: 10}, connections=4, requests_per_s=20)
    assert (found.requests, found.requests_per_s, found.busiest) == ([30, 10, 0], 20, 0.75)
