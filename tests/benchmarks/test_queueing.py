"""The simulation of queues gives what queueing theory says."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.load.open_loop import Arrivals
from benchmarks.queueing import Balancer, FewestRequests, IdleConnections, RoundRobin, Worker, latencies

N_REQUESTS = 100_000
SERVICE_S = 0.01


def arrivals(load: float, n_workers: int = 1) -> NDArray[np.float64]:
    """Give the times of requests at random that keep the workers busy for so much of the time."""
    per_s = load * n_workers / SERVICE_S
    return Arrivals.at_random(per_s, N_REQUESTS / per_s, np.random.default_rng(1)).due_s


def services(kind: str) -> NDArray[np.float64]:
    """Give times of service with the mean SERVICE_S."""
    rng = np.random.default_rng(2)
    if kind == "constant":
        return np.full(N_REQUESTS, SERVICE_S)
    if kind == "exponential":
        return rng.exponential(SERVICE_S, N_REQUESTS)
    # One request in ten takes long.
    return np.where(rng.random(N_REQUESTS) < 0.1, 5.5 * SERVICE_S, 0.5 * SERVICE_S)


@pytest.mark.parametrize("kind", ["constant", "exponential", "mixed"])
@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_the_mean_wait_is_that_of_pollaczek_and_khinchine(kind: str, load: float) -> None:
    """M/D/1, M/M/1 and M/G/1: the mean wait is rate x mean square of the service time / 2 (1 - load)."""
    times = services(kind)
    waits = latencies(arrivals(load), [Worker.steady(times)], RoundRobin(1)) - times
    expected = load / SERVICE_S * np.mean(times**2) / (2 * (1 - load))
    assert np.mean(waits) == pytest.approx(expected, rel=0.1)


def test_a_first_request_that_takes_longer_makes_others_wait() -> None:
    """M/G/1 with another service after an idle time: the mean wait is that of Welch (1964)."""
    load = 0.5
    busy, idle = services("exponential"), services("constant") * 1.5
    found = latencies(arrivals(load), [Worker(busy, idle)], RoundRobin(1))
    per_s, more_load = load / SERVICE_S, 1.5 * load
    wait = per_s * np.mean(busy**2) / (2 * (1 - load))
    wait += per_s * (np.mean(idle**2) - np.mean(busy**2)) / (2 * (1 - load + more_load))
    was_idle = (1 - load) / (1 - load + more_load)
    expected = wait + was_idle * np.mean(idle) + (1 - was_idle) * np.mean(busy)
    assert np.mean(found) == pytest.approx(expected, rel=0.05)


def test_the_percentiles_are_those_of_a_markovian_queue() -> None:
    """M/M/1: the time from arrival to answer is exponential with the rate that the worker has left."""
    found = latencies(arrivals(0.7), [Worker.steady(services("exponential"))], RoundRobin(1))
    left_per_s = 0.3 / SERVICE_S
    for percent in (50, 90, 99):
        expected = -math.log(1 - percent / 100) / left_per_s
        assert np.percentile(found, percent) == pytest.approx(expected, rel=0.1), percent


def test_workers_in_turn_are_queues_of_erlang_arrivals() -> None:
    """E2/M/1: the mean wait is s / (1 - s) services, where s solves s = (2 load / (2 load + 1 - s))^2."""
    load, root = 0.8, 0.5
    for _ in range(200):
        root = (2 * load / (2 * load + 1 - root)) ** 2
    times = services("exponential")
    found = latencies(arrivals(load, 2), [Worker.steady(times)] * 2, RoundRobin(2))
    assert np.mean(found - times) == pytest.approx(root / (1 - root) * SERVICE_S, rel=0.1)


def test_the_fewest_requests_wait_least() -> None:
    """All compared is better than two, two are better than turns, and one queue for all (M/M/c) is better still."""
    n_workers, load = 8, 0.8
    times = services("exponential")
    balancers: list[Balancer] = [
        FewestRequests(n_workers),
        FewestRequests(n_workers, drawn=2),
        RoundRobin(n_workers),
    ]
    waits = [
        np.mean(latencies(arrivals(load, n_workers), [Worker.steady(times)] * n_workers, one) - times)
        for one in balancers
    ]
    offered = load * n_workers
    terms = [offered**n / math.factorial(n) for n in range(n_workers)]
    last = offered**n_workers / math.factorial(n_workers) / (1 - load)
    one_queue = last / (sum(terms) + last) / (1 - load) / n_workers * SERVICE_S
    assert one_queue < waits[0] < waits[1] < waits[2]


def test_without_a_queue_a_request_takes_its_service() -> None:
    """At even intervals that are longer than the service no request waits, on any worker."""
    due_s = Arrivals.evenly(1 / (1.01 * SERVICE_S), 10.1).due_s
    for balancer in (IdleConnections(3, 12), RoundRobin(3), FewestRequests(3)):
        found = latencies(due_s, [Worker.steady(np.full(1000, SERVICE_S))] * 3, balancer)
        assert found == pytest.approx(np.full(1000, SERVICE_S))


def test_a_slow_worker_gets_less_over_idle_connections() -> None:
    """Its connections return later, so that it is chosen less often."""
    due_s = Arrivals.evenly(100, 20).due_s
    slow, fast = (Worker.steady(np.full(2000, takes_s)) for takes_s in (0.5, 0.001))
    found = latencies(due_s, [slow, fast], IdleConnections(2, 60))
    assert np.mean(found > 0.4) < 0.1
    assert np.mean(latencies(due_s, [slow, fast], RoundRobin(2)) > 0.4) == 0.5
