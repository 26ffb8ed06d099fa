"""Answers are held against the model's."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.bodies import JSON, MSGPACK, MSGPACK_BINARY, NPY, RAW, decimals
from benchmarks.cases import Case, WrongAnswerError, batch_case, score_fault, single_case
from benchmarks.client import Client
from benchmarks.poster import Exchange, Poster, exchange
from benchmarks.servers import Server
from service.model.artefact import load_artefact
from service.model.scorer import Scorer
from tests.artefacts import N_FEATURES, write_artefact
from tests.benchmarks.conftest import SCORES

THREE = Case("bare-three", JSON, b"{}", np.array(SCORES, np.float32), connections=1, server="bare")


def test_right_scores_pass(bare: Server) -> None:
    """A reply whose scores are the model's is given back, with its length in bytes."""
    reply = THREE.check(bare.url)
    assert reply.status == 200
    assert reply.size == len(reply.head) + int(reply.headers["content-length"])


def test_wrong_scores_fail(bare: Server) -> None:
    """A score off by more than the golden tolerance is named, with what it should be."""
    wrong = replace(THREE, scores=np.array([1.5, 2.501, 3.5], np.float32))
    with pytest.raises(WrongAnswerError, match=r"bare-three: score 1 is 2\.5, expected 2\.50"):
        wrong.check(bare.url)


def test_a_missing_score_fails() -> None:
    """As many scores as events are expected."""
    assert score_fault(np.zeros(2), np.zeros(3, np.float32)) == "the scores have the shape (2,), expected (3,)"


def test_a_refusal_fails(bare: Server) -> None:
    """A reply that is not 2xx is shown."""
    with pytest.raises(WrongAnswerError, match="the server answered 500"):
        replace(THREE, name="bare-unknown").check(bare.url)


def test_numbers_are_written_with_the_digits_of_float32() -> None:
    """641.3 goes out as 641.3, and comes back as the same float32."""
    events = np.array([[641.3, -1205.6], [1e-5, 641.3]], np.float32)
    assert decimals(events).tolist() == [[641.3, -1205.6], [1e-5, 641.3]]
    assert np.array_equal(decimals(events).astype(np.float32), events)
    assert JSON.write("events", events) == b'{"events": [[641.3, -1205.6], [1e-05, 641.3]]}'


def test_scores_are_read_in_every_format() -> None:
    """Lists, float32 in bytes and arrays are read as the same scores."""
    scores = np.array(SCORES, np.float32)
    replies = {
        JSON: b'{"anomaly_scores":[1.5,2.5,3.5]}',
        MSGPACK: MSGPACK.write("anomaly_scores", scores),
        MSGPACK_BINARY: MSGPACK_BINARY.write("anomaly_scores", scores),
        RAW: scores.tobytes(),
        NPY: NPY.write("", scores),
    }
    for fmt, reply in replies.items():
        assert np.array_equal(fmt.read("anomaly_scores", reply), scores), fmt.name


def test_cases_are_what_their_names_say(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The scores that a case expects are the scorer's, for as many events as its name says."""
    scorer = Scorer(load_artefact(write_artefact(tmp_path_factory.mktemp("model") / "good.onnx")))
    events = np.resize(np.array(scorer.artefact.metadata.golden.features, np.float32), (1_000, N_FEATURES))
    batch, single = batch_case(scorer, events, "raw"), single_case(scorer, events, 32)
    assert (batch.name, batch.path, len(batch.body)) == ("raw-1k", "/score/batch", 1_000 * N_FEATURES * 4)
    assert (single.name, single.path, single.connections) == ("single-32", "/score", 32)
    assert np.array_equal(batch.scores, scorer.score(events))
    assert len(single.scores) == 1


def test_a_client_process_counts_right_replies(bare: Server) -> None:
    """It posts until the end of the block, and says how many replies and events that were."""
    with Poster(bare.url, [exchange(bare.url, THREE)]) as poster:
        pass
    assert poster.seen.replies >= 1
    assert poster.seen.events == 3 * poster.seen.replies


def test_a_client_process_that_gets_a_wrong_reply_fails(bare: Server) -> None:
    """The end of the block says what was wrong."""
    right = exchange(bare.url, THREE)
    wrong = Exchange("three", right.request, b"something else", 3)
    with pytest.raises(WrongAnswerError, match="three: status 200"), Poster(bare.url, [wrong]):
        pass


def test_a_connection_is_kept(bare: Server) -> None:
    """One client asks twice."""
    with Client(bare.url) as client:
        assert client.post("/three", {}, b"x" * 200_000).body == client.post("/three", {}, b"").body
