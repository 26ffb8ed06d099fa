"""The peers: what can be tested without installing any, and our own service as a peer."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers import NAMES, open_inference, surface
from benchmarks.peers.environment import PeerError
from benchmarks.peers.process import PORTS, reserve_ports, stands_still
from benchmarks.peers.surface import Floats, Question, peer_module
from benchmarks.report.measurements import PeerResult, WrkRun
from benchmarks.report.peers import peers_text
from benchmarks.report.results import OURS, PEERS, Peers, read
from benchmarks.scenarios.peers import Peer, summarise, with_ratios
from tests.artefacts import oracle, sample_events

EVENTS: Floats = np.arange(28, dtype=np.float32).reshape(2, 14) / np.float32(3)
SCORES = np.array([0.1, 20.5], np.float32)


def result(name: str, rate: float, p99_ms: float = 2.0) -> PeerResult:
    """Make the result of a peer that was only asked for single events, in one turn of a second."""
    turn = WrkRun(int(rate), 1.0, 1.0, p99_ms, 3.0, 4.0, non_2xx=0, errors=0, bytes_read=100)
    return PeerResult(name, "As advised.", {"web": "1.0"}, None, {"single": summarise([turn], 1)})


FAILED = PeerResult("C", "As advised.", {}, "no wheel", {})


def test_every_peer_offers_the_whole_surface_without_its_packages(subtests: pytest.Subtests) -> None:
    """Each can be imported here, pins its packages, and is asked about the very numbers that the others are."""
    for name in (*NAMES, OURS):
        with subtests.test(msg=name):
            peer = peer_module(name)
            assert peer.NAME
            assert peer.NOTES.endswith(".")
            assert callable(peer.serve)
            assert all(re.fullmatch(r"[\w.\[\]-]+==[\d.]+", package) for package in peer.PACKAGES)
            for question, events in ((peer.single(EVENTS[0]), EVENTS[0]), (peer.json_batch(EVENTS), EVENTS)):
                numbers = [float(text) for text in re.findall(rb"\d+\.\d+", question.body)]
                np.testing.assert_array_equal(numbers, events.ravel())
                assert question.path.startswith("/")
            assert peer.binary_batch(EVENTS)


def test_responses_of_our_service_are_read_as_scores() -> None:
    """One score, a list of them and raw float32 all become the same array."""
    np.testing.assert_array_equal(surface.single(EVENTS[0]).read(b'{"anomaly_score":0.1}'), SCORES[:1])
    np.testing.assert_array_equal(surface.json_batch(EVENTS).read(b'{"anomaly_scores":[0.1,20.5]}'), SCORES)
    np.testing.assert_array_equal(surface.raw_batch(EVENTS).read(SCORES.tobytes()), SCORES)


def test_binary_tensors_follow_a_head_of_the_length_that_the_header_names() -> None:
    """A binary question of the Open Inference Protocol is JSON and then nothing but the events' bytes."""
    question = open_inference.binary_batch(EVENTS)
    size = int(question.headers["Inference-Header-Content-Length"])
    (tensor,) = json.loads(question.body[:size])["inputs"]
    assert tensor["shape"] == [2, 14]
    assert tensor["parameters"]["binary_data_size"] == EVENTS.nbytes
    assert question.body[size:] == EVENTS.tobytes()
    np.testing.assert_array_equal(question.read(b'{"outputs": []}' + SCORES.tobytes()), SCORES)


def test_ratios_are_ours_over_theirs() -> None:
    """A peer of half our rate has the ratio 2, and a peer that failed has none."""
    compared = with_ratios({OURS: result("we", 200), "b": result("B", 100), "c": FAILED})
    assert compared["b"].cases["single"].ours_over_peer == 2
    assert compared["c"].cases == {}


def test_the_page_admits_its_bias_first_and_names_the_faster() -> None:
    """The page opens with who wrote it, then shows losses as plainly as the reason why a peer is missing."""
    measured = read(PEERS, Peers)
    peers = with_ratios({OURS: result("we", 100), "b": result("B", 200, p99_ms=1.0), "c": FAILED})
    page = peers_text(Peers(**{**{name: getattr(measured, name) for name in Peers.__struct_fields__}, "peers": peers}))
    assert page.startswith("We wrote one of the servers")
    assert "B scores single events faster" in page
    assert "B has a shorter p99 latency" in page
    assert "| B | 200 (0.5 x) | 1.00, 1.00 | — | — |" in page
    assert "| C | not measured: no wheel |" in page


def test_ports_are_given_once() -> None:
    """Two runs on one machine do not ask each other's servers."""
    with reserve_ports() as one, reserve_ports() as other:
        assert abs(one.getsockname()[1] - other.getsockname()[1]) > PORTS


@pytest.mark.slow
@pytest.mark.process
def test_a_peer_is_right_frozen_between_turns_and_gone_at_the_end(model: Path) -> None:
    """A peer's server gives the scorer's scores on one core, stands still when frozen, and leaves no process."""
    events = sample_events(20)
    peer = Peer(OURS, str(model), events, oracle(events).astype(np.float32))
    try:
        peer.attempt(peer.start)
        assert peer.failure is None
        assert peer.process is not None
        (process,) = peer.process.processes()
        assert stands_still(process)
        peer.take_turn(1)
        assert peer.result().cases.keys() == {"single", "json_batch", "binary_batch"}
        peer.process.thaw()
        peer.scores = peer.scores + 1
        with pytest.raises(PeerError, match=r"json_batch: score 0 is .*, expected"):
            peer.check("json_batch")
        peer.questions["single"] = Question("/score", surface.JSON, b"{}", surface.read_score)
        with pytest.raises(PeerError, match="single: status 400"):
            peer.check("single")
    finally:
        peer.stop()
    assert peer.process.processes() == []
