"""The peers: what can be said of them without installing any, and a contest of our own service alone."""

import json
import os
import re
from pathlib import Path

import msgspec
import numpy as np
import pytest

from benchmarks.machine import Machine
from benchmarks.peers import (
    NAMES,
    bentoml,
    fastapi_onnx,
    fastapi_torch,
    litserve,
    litserve_batching,
    mlserver,
    open_inference,
    ours,
    pytriton,
    ray_serve,
    surface,
)
from benchmarks.peers.contest import Contestant
from benchmarks.peers.environment import PeerError
from benchmarks.peers.process import PORTS, reserve_ports, stands_still
from benchmarks.peers.results import OURS, PeerResults, Results, summarise, with_ratios
from benchmarks.peers.surface import Floats, Peer, Question
from benchmarks.peers.table import render
from benchmarks.wrk import Load
from tests import artefacts

EVENTS: Floats = np.arange(28, dtype=np.float32).reshape(2, 14) / np.float32(3)
SCORES = np.array([0.1, 20.5], np.float32)


# Listed once more, so that the type checker holds every module against the surface.
PEERS: dict[str, Peer] = {
    "fastapi_onnx": fastapi_onnx,
    "fastapi_torch": fastapi_torch,
    "litserve": litserve,
    "litserve_batching": litserve_batching,
    "bentoml": bentoml,
    "mlserver": mlserver,
    "ray_serve": ray_serve,
    "pytriton": pytriton,
    OURS: ours,
}


def turn(rate: float, p99_ms: float = 2.0) -> Load:
    """Make a turn of one second."""
    return Load(int(rate), 1.0, 1.0, p99_ms, 3.0, 4.0, non_2xx=0, errors=0, bytes_read=100)


def results(**peers: PeerResults) -> Results:
    """Make the results of a run."""
    machine = Machine("a processor", 2, 24.0, "Linux")
    connections = {"single": 32, "json_batch": 4, "binary_batch": 4}
    return Results("command", "abc", "density@1", machine, "3.11", 1, 3, 10_000, connections, peers)


def took_part(name: str, rate: float, p99_ms: float = 2.0) -> PeerResults:
    """Make a peer that was only asked for single events."""
    return PeerResults(name, "As advised.", {"web": "1.0"}, None, {"single": summarise([turn(rate, p99_ms)], 1)})


@pytest.mark.parametrize("name", [*NAMES, OURS])
def test_a_peer_offers_the_whole_surface_without_its_packages(name: str) -> None:
    """Every peer can be imported here, says who it is, and asks all three questions of some path."""
    peer = PEERS[name]
    assert peer.NAME
    assert peer.NOTES.endswith(".")
    assert callable(peer.serve)
    for question in (peer.single(EVENTS[0]), peer.json_batch(EVENTS), peer.binary_batch(EVENTS)):
        assert question is None or (question.path.startswith("/") and question.headers["Content-Type"])


@pytest.mark.parametrize("name", NAMES)
def test_a_peer_is_pinned_to_its_versions(name: str) -> None:
    """What pip installs for a peer tomorrow is what it installs today."""
    assert all(re.fullmatch(r"[\w.\[\]-]+==[\d.]+", package) for package in PEERS[name].PACKAGES)


@pytest.mark.parametrize("name", [*NAMES, OURS])
def test_json_questions_hold_every_number(name: str) -> None:
    """A peer is asked about all events, and about the very numbers that the others are asked about."""
    peer = PEERS[name]
    for question, events in ((peer.single(EVENTS[0]), EVENTS[0]), (peer.json_batch(EVENTS), EVENTS)):
        numbers = [float(text) for text in re.findall(rb"\d+\.\d+", question.body)]
        np.testing.assert_array_equal(numbers, events.ravel())


def test_the_replies_of_our_service_are_read_as_scores() -> None:
    """One score, a list of them and raw float32 all become the same array."""
    np.testing.assert_array_equal(surface.single(EVENTS[0]).read(b'{"anomaly_score":0.1}'), SCORES[:1])
    np.testing.assert_array_equal(surface.json_batch(EVENTS).read(b'{"anomaly_scores":[0.1,20.5]}'), SCORES)
    np.testing.assert_array_equal(surface.raw_batch(EVENTS).read(SCORES.tobytes()), SCORES)


def test_binary_tensors_follow_a_head_of_the_length_that_the_header_names() -> None:
    """A binary question of the Open Inference Protocol is JSON and then nothing but the events' octets."""
    question = open_inference.binary_batch(EVENTS)
    size = int(question.headers["Inference-Header-Content-Length"])
    (tensor,) = json.loads(question.body[:size])["inputs"]
    assert tensor["shape"] == [2, 14]
    assert tensor["parameters"]["binary_data_size"] == EVENTS.nbytes
    assert question.body[size:] == EVENTS.tobytes()
    np.testing.assert_array_equal(question.read(b'{"outputs": []}' + SCORES.tobytes()), SCORES)


def test_a_case_is_summarised_by_medians() -> None:
    """One slow turn does not move the figures of a case, and a batch counts its events."""
    case = summarise([turn(100), turn(3), turn(110)], 10_000)
    assert case.requests_per_s == 100
    assert case.events_per_s == 1_000_000
    assert len(case.turns) == 3


def test_ratios_are_ours_over_theirs() -> None:
    """A peer of half our rate has the ratio 2, and a peer that failed has none."""
    failed = PeerResults("C", "As advised.", {}, "no wheel", {})
    compared = with_ratios({OURS: took_part("we", 200), "b": took_part("B", 100), "c": failed})
    assert compared["b"].cases["single"].ours_over_peer == 2
    assert compared["c"].cases == {}


def test_the_page_admits_its_bias_first_and_names_who_is_faster() -> None:
    """The page opens with who wrote it, then shows losses as plainly as the reason why a peer is missing."""
    failed = PeerResults("C", "As advised.", {}, "no wheel", {})
    peers = with_ratios({OURS: took_part("we", 100), "b": took_part("B", 200, p99_ms=1.0), "c": failed})
    page = render(results(**peers))
    assert page.startswith("We wrote one of the contestants")
    assert "B scores single events faster" in page
    assert "B has a shorter p99 latency" in page
    assert "| B | 200 (0.5 x) | 1.00, 1.00 | — | — |" in page
    assert "| C | not measured: no wheel |" in page


def test_ports_are_given_once() -> None:
    """Two contests on one machine do not ask each other's servers."""
    with reserve_ports() as one, reserve_ports() as other:
        assert abs(one.getsockname()[1] - other.getsockname()[1]) > PORTS


def test_results_survive_their_file() -> None:
    """What is written as JSON is read back as the same results, and gives the same page."""
    written = results(**with_ratios({OURS: took_part("we", 100), "b": took_part("B", 200)}))
    read = msgspec.json.decode(msgspec.json.encode(written), type=Results)
    assert read == written
    assert render(read) == render(written)


def test_a_contestant_is_right_frozen_between_turns_and_gone_at_the_end(
    tmp_path: Path,
) -> None:
    """A peer's server gives the scorer's scores on one core, stands still when frozen, and leaves no process."""
    core = min(os.sched_getaffinity(0))
    model = artefacts.write_artefact(tmp_path / "model.onnx")
    events = artefacts.sample_events(20)
    contestant = Contestant(OURS, str(model), events, artefacts.oracle(events).astype(np.float32), (core, core))
    try:
        contestant.wait_until_ready()
        for case in contestant.questions:
            contestant.check(case)
        contestant.process.freeze()
        (process,) = contestant.process.processes()
        assert stands_still(process)
        contestant.process.thaw()
        contestant.wait_until_ready()
        contestant.scores = contestant.scores + 1
        with pytest.raises(PeerError, match=r"json_batch: score 0 is .*, expected"):
            contestant.check("json_batch")
        contestant.questions["single"] = Question("/score", surface.JSON, b"{}", surface.read_score)
        with pytest.raises(PeerError, match="single: status 400"):
            contestant.check("single")
    finally:
        contestant.process.stop()
    assert contestant.process.processes() == []
