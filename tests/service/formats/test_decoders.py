"""However a body is legally written and cut, it gives the same float32; anything else is refused."""

from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.formats.format import Rows
from tests.service.formats.references import (
    assert_same,
    check_batch,
    check_event,
    event_outcome,
    expected,
    outcome,
    pieces_of,
    readers,
    whole_outcome,
)
from tests.service.formats.strategies import BATCHES, SINGLES, cuts, damaged

bounded = settings(
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
"""The same examples in every run, and none kept on disk."""

n_examples = pytest.mark.parametrize("n_examples", [25, pytest.param(200, marks=pytest.mark.slow)])
FORMATS: Final = pytest.mark.parametrize("media_type", BATCHES)


@n_examples
@FORMATS
def test_a_body_in_any_legal_spelling_is_read(media_type: str, n_examples: int) -> None:
    """All spellings and all cuts of a batch, and of one event, give the float32 values that it means."""

    @settings(bounded, max_examples=n_examples)
    @given(BATCHES[media_type], SINGLES.get(media_type, st.none()), cuts)
    def check(written: tuple[bytes, Rows], single: tuple[bytes, Rows] | None, places: list[float]) -> None:
        body, rows = written
        reference = expected(body, media_type, "events")
        assert reference is not None
        assert_same(rows, reference)
        for opened in readers(media_type).values():
            assert_same(outcome(opened, [body]), rows)
            assert_same(outcome(opened, pieces_of(body, places)), rows)
        assert_same(whole_outcome(body, media_type), rows)
        if single is not None:
            assert_same(event_outcome(single[0], media_type), single[1])

    check()


@n_examples
@FORMATS
def test_any_bytes_are_rows_or_a_refusal(media_type: str, n_examples: int) -> None:
    """Damaged bodies and arbitrary bytes are judged as the reference judges them, in any pieces, by every reader."""

    @settings(bounded, max_examples=n_examples)
    @given(
        st.one_of(damaged(BATCHES[media_type]), st.binary(max_size=60)),
        st.one_of(damaged(SINGLES.get(media_type, BATCHES[media_type])), st.binary(max_size=60)),
        cuts,
    )
    def check(batch: bytes, event: bytes, places: list[float]) -> None:
        check_batch(batch, pieces_of(batch, places), media_type)
        check_event(event, media_type)

    check()
