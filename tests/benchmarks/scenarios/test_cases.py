"""Cases are what their names say, and turns are summed up by medians."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.report.measurements import Measured, Turn
from benchmarks.report.results import median_of
from benchmarks.scenarios.cases import batch_case, ceiling_cases, service_cases, single_case
from benchmarks.scenarios.turns import compare, sum_up_runtime
from service.model.artefact import load_artefact
from service.model.scorer import Scorer
from tests.artefacts import N_FEATURES, sample_events


def test_cases_are_what_their_names_say(model: Path) -> None:
    """The scores that a case expects are the scorer's, for as many events as its name says."""
    scorer, events = Scorer(load_artefact(model)), sample_events(1_000)
    batch, single = batch_case(scorer, events, "raw"), single_case(scorer, events, 32)
    assert (batch.name, batch.path, len(batch.request.body)) == ("raw-1k", "/score/batch", 1_000 * N_FEATURES * 4)
    assert (single.name, single.path, single.connections) == ("single-32", "/score", 32)
    assert np.array_equal(batch.scores, scorer.score(events))
    assert len(single.scores) == 1


def test_small_cases_have_a_bare_server_and_one_has_plain_decoding(model: Path) -> None:
    """The bare server finds its response by the name of the service's case."""
    cases = list(service_cases(Scorer(load_artefact(model)), sample_events(10_000)))
    ceilings = {case.name: case for case in ceiling_cases(cases)}
    assert ceilings["bare-raw-10"].path == "/raw-10"
    assert ceilings["plain-json-10k"].path == "/score/batch"
    assert "bare-raw-1k" not in ceilings


def measured(name: str, target: str, events: int, requests_per_s: float) -> Measured:
    """Make a case of three turns around a rate."""
    rates = [fraction * requests_per_s for fraction in (0.5, 1.0, 1.1)]
    turns = [Turn(rate, rate * events, 1.0, 2.0, 3.0, 0.5, 120.0) for rate in rates]
    return Measured(name, target, "JSON", events, 32, turns, median_of(turns))


def test_ratios_are_of_medians() -> None:
    """A single event is compared with the bare server, a batch with the runtime, JSON with plain decoding too."""
    runtime = sum_up_runtime({"256 in a call": [3e6, 3.1e6, 1e6], "4096 in a call": [4e6, 4.1e6, 3.9e6]})
    assert (runtime.best, runtime.events_per_s) == ("4096 in a call", 4e6)
    cases = compare(
        [
            measured("single-32", "service", 1, 12_000),
            measured("bare-single-32", "bare", 1, 20_000),
            measured("json-10k", "service", 10_000, 150),
            measured("plain-json-10k", "plain", 10_000, 50),
        ],
        runtime.events_per_s,
    )
    assert cases["single-32"].to_bare == pytest.approx(0.6)
    assert cases["single-32"].to_in_process is None
    assert cases["json-10k"].to_in_process == pytest.approx(0.375)
    assert cases["json-10k"].to_plain == pytest.approx(3)
    assert cases["json-10k"].to_bare is None
