"""Arrays of any real numbers and frames are scored as their float32 rows are, or refused by place."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from service.model import Explainer, Scorer, load_artefact
from service.model.rows import as_rows
from tests.artefacts import N_FEATURES, RTOL, feature_names, oracle, sample_events

NAMES = feature_names(N_FEATURES)
EVENTS = sample_events(20)


def test_arrays_of_real_numbers_become_float32() -> None:
    """Lists, integers and float64 are converted, and float32 rows in C order are not copied."""
    assert as_rows(EVENTS, NAMES) is EVENTS
    whole = np.arange(10).reshape(2, 5)
    for given in (EVENTS.astype(float), EVENTS.tolist(), np.asfortranarray(EVENTS)):
        np.testing.assert_array_equal(as_rows(given, NAMES), EVENTS)
    for given in (whole, whole.astype(np.uint8), whole.astype(np.float16), whole.tolist()):
        np.testing.assert_array_equal(as_rows(given, NAMES), whole.astype(np.float32), strict=True)


def test_a_frame_is_read_by_the_names_of_its_columns(model_path: Path) -> None:
    """Columns may be in any order and of any numeric type, and others are ignored."""
    scorer = Scorer.open(model_path)
    assert scorer.artefact == load_artefact(model_path)
    frame = pd.DataFrame(EVENTS.astype(float), columns=NAMES).assign(label="signal", event=range(20))
    frame = frame[["label", *reversed(NAMES), "event"]].astype({NAMES[2]: "float32"}).set_index("event")
    scores = scorer.score(frame)
    np.testing.assert_array_equal(scores, scorer.score(EVENTS), strict=True)
    np.testing.assert_allclose(scores, oracle(EVENTS), rtol=RTOL)
    explainer = Explainer(scorer)
    for found, expected in zip(explainer.explain(frame[:3]), explainer.explain(EVENTS[:3]), strict=True):
        np.testing.assert_array_equal(found, expected)


def changed(value: float) -> Any:
    """Return events in float64 of which one feature has another value."""
    events = EVENTS.astype(float)
    events[3, 1] = value
    return events


@pytest.mark.parametrize(
    ("events", "message"),
    [
        (changed(np.nan), "events[3], feature1 is nan, expected a finite float32 number"),
        (changed(-np.inf), "events[3], feature1 is -inf, expected a finite"),
        (changed(1e39), "events[3], feature1 is 1e+39, expected a finite float32 number"),
        (pd.DataFrame(changed(np.nan), columns=NAMES), "events[3], feature1 is nan"),
        (pd.DataFrame(EVENTS, columns=NAMES).rename(columns={"feature1": "f1"}), "no column 'feature1', expected one"),
        (pd.DataFrame(EVENTS), "no column 'feature0', 'feature1', 'feature2', 'feature3', 'feature4'"),
        (pd.DataFrame(EVENTS, columns=NAMES).astype({"feature1": "str"}), "expected real numbers"),
        (EVENTS.astype(str), "events are <U"),
        (EVENTS.astype(complex), "events are complex128, expected real numbers"),
        (EVENTS > 0, "events are bool, expected real numbers"),
        (EVENTS[0], "have the shape (5,), expected (n, 5), one row an event of feature0, feature1"),
        (EVENTS[:, :4], "have the shape (20, 4), expected (n, 5)"),
        (EVENTS[None], "have the shape (1, 20, 5), expected (n, 5)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_scored_is_named(events: Any, message: str) -> None:
    """The error has the place, the value and what was expected."""
    with pytest.raises(ValueError, match=re.escape(message)):
        as_rows(events, NAMES)
