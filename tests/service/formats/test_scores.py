"""Each format writes scores without losing a digit, and reads whatever has a finite float32."""

import msgspec
import numpy as np
import pytest

from benchmarks.load.formats import FORMATS, JSON, MSGPACK, NPY, RAW, Format
from service.formats.format import WRITTEN_EVENTS
from service.formats.npy import NPY_DECISIONS
from service.formats.raw import RAW_DECISIONS
from service.formats.table import FORMATS as SERVED
from tests.service.formats.references import event_outcome

formats = pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.name)


@formats
def test_scores_keep_every_digit_and_the_shape_of_the_request(fmt: Format) -> None:
    """One event's score is one number, not a list of one; a batch of any size gets a list."""
    served = SERVED.of_request(fmt.media_type)
    scores = np.array([0.1, 1 / 3, 1e-30, 3.4e38, 16_777_217.0], np.float32)
    for score in scores:
        single = fmt.read("anomaly_score", served.write_score(score[np.newaxis]))
        assert single.shape == ((1,) if fmt is RAW else ())  # its bytes have no shape
        assert np.float32(single) == score
    for n_events in (1, 5):
        sent = fmt.read("anomaly_scores", served.write_scores(scores[:n_events]))
        np.testing.assert_array_equal(sent.astype(np.float32), scores[:n_events], strict=True)


@pytest.mark.parametrize("fmt", [JSON, MSGPACK], ids=["json", "msgpack"])
def test_documents_carry_acceptance(fmt: Format) -> None:
    """JSON and MessagePack carry `accepted` when it is given."""
    served = SERVED.of_request(fmt.media_type)
    scores, accepted = np.array([1, 3], np.float32), np.array([False, True])
    decode = msgspec.json.decode if fmt is JSON else msgspec.msgpack.decode
    many, one = served.write_scores(scores, accepted), served.write_score(scores[1:], accepted[1:])
    assert decode(many) == {"anomaly_scores": [1.0, 3.0], "accepted": [False, True]}
    assert decode(one) == {"anomaly_score": 3.0, "accepted": True}


@formats
@pytest.mark.parametrize("with_acceptance", [False, True])
def test_a_response_in_pieces_has_the_same_bytes(fmt: Format, with_acceptance: bool) -> None:
    """However many pieces the scores of a long batch are written in, together they are its response."""
    served = SERVED.of_request(fmt.media_type)
    for n_events in (WRITTEN_EVENTS, WRITTEN_EVENTS + 1, 3 * WRITTEN_EVENTS):
        scores = np.arange(n_events, dtype=np.float32)
        accepted = scores > 5 if with_acceptance else None
        assert b"".join(served.write_pieces(scores, accepted)) == served.write_scores(scores, accepted)


def test_decisions_are_a_byte_each() -> None:
    """Raw or as an array of NumPy, for one event and for a batch, at once and in pieces."""
    for n_events in (1, 5, 3 * WRITTEN_EVENTS):
        scores = np.arange(n_events, dtype=np.float32)
        accepted = scores % 3 == 1
        raw, npy = RAW_DECISIONS.write_scores(scores, accepted), NPY_DECISIONS.write_scores(scores, accepted)
        assert raw == bytes(accepted.tolist())
        np.testing.assert_array_equal(NPY.read("", npy), accepted, strict=True)
        assert b"".join(RAW_DECISIONS.write_pieces(scores, accepted)) == raw
        assert b"".join(NPY_DECISIONS.write_pieces(scores, accepted)) == npy
    for one in (True, False):
        accepted = np.array([one])
        assert RAW_DECISIONS.write_score(scores[:1], accepted) == bytes([one])
        single = NPY.read("", NPY_DECISIONS.write_score(scores[:1], accepted))
        np.testing.assert_array_equal(single, np.array(one), strict=True)


def test_numbers_that_float32_can_round_are_read() -> None:
    """Whatever has a finite float32 is a number: zeros, underflow, large integers."""
    for text in ("1e-400", "-0", "-0.0", "1" + "0" * 38, "3.4028235e38", "1E5", "18446744073709551616"):
        event = event_outcome(b'{"features": [1, 2, %b]}' % text.encode(), JSON.media_type)
        np.testing.assert_array_equal(event, np.array([[1, 2, float(text)]], np.float32))
