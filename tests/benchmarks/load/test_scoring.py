"""Requests hold the events, and responses are compared with the scores of the model."""

import numpy as np
import pytest

from benchmarks.load.formats import ENCODINGS, JSON
from benchmarks.load.scoring import ScoringRequest, WrongAnswerError, decimals, largest_requests, score_fault
from benchmarks.targets.launcher import Server
from tests.artefacts import sample_events

SCORES = np.array([1.5, 2.5, 3.5], np.float32)
THREE = ScoringRequest.of(JSON, sample_events(3), "three", path="/three")


def test_only_right_scores_pass(bare: Server) -> None:
    """A score off by more than the golden tolerance is named with what it should be, another status is shown."""
    assert THREE.ask(bare.base_url, SCORES).status == 200
    with pytest.raises(WrongAnswerError, match=r"three: score 1 is 2\.5, expected 2\.50"):
        THREE.ask(bare.base_url, np.array([1.5, 2.501, 3.5], np.float32))
    with pytest.raises(WrongAnswerError, match="three: status 500"):
        THREE._replace(path="/unknown").ask(bare.base_url, SCORES)


def test_a_missing_score_fails() -> None:
    """As many scores as events are expected, and nothing but scores."""
    assert score_fault(np.zeros(2), np.zeros(3)) == "the scores have the shape (2,), expected (3,)"
    assert "no scores" in (THREE.fault(b"{}", SCORES) or "")


def test_numbers_are_written_with_the_digits_of_float32() -> None:
    """641.3 goes out as 641.3, and comes back as the same float32."""
    events = np.array([[641.3, -1205.6], [1e-5, 641.3]], np.float32)
    assert decimals(events).tolist() == [[641.3, -1205.6], [1e-5, 641.3]]
    assert np.array_equal(decimals(events).astype(np.float32), events)
    assert ScoringRequest.of(JSON, events).body == b'{"events": [[641.3, -1205.6], [1e-05, 641.3]]}'


def test_scores_are_read_in_every_format() -> None:
    """Lists, float32 in bytes and arrays are read as the same scores."""
    written = {fmt: fmt.write("anomaly_scores", SCORES) for fmt in ENCODINGS}
    assert all(np.array_equal(fmt.read("anomaly_scores", body), SCORES) for fmt, body in written.items())


def test_the_largest_bodies_are_just_below_the_limit() -> None:
    """In every format."""
    requests = largest_requests(sample_events(2_000), 1_000_000)
    assert len(requests) == len(ENCODINGS)
    assert all(970_000 < len(request.body) <= 1_000_000 for request in requests)
