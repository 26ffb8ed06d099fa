"""Events are read by name from what pandas writes, and refused where they are not numbers a model may see."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from training.errors import EventsError
from training.events.events import (
    BACKGROUND,
    FEATURE_NAMES,
    FEATURE_UNITS,
    LABEL,
    SIGNAL,
    Events,
    read_events,
    stream_events,
    write_events,
)

RAW = Path("../shared/lhco/events_anomalydetection_tiny.h5")


def a_frame(rows: int = 60) -> pd.DataFrame:
    """Return events as the published files hold them: float64 features, then an int64 label."""
    values = np.random.default_rng(5).normal(0, 500, (rows, len(FEATURE_NAMES)))
    return pd.DataFrame(values, columns=list(FEATURE_NAMES)).assign(label=np.arange(rows) % 4 == 0).astype({LABEL: int})


def written(path: Path, frame: pd.DataFrame, **layout: Any) -> Path:
    """Write a frame as pandas does, and give the path."""
    frame.to_hdf(path, key="df", mode="w", **layout)
    return path


def refusal(path: Path) -> str:
    """Return the message with which the file is refused, whole or streamed, which always names the file."""
    messages = []
    for read in (read_events, lambda path: list(stream_events(path))):
        with pytest.raises(EventsError) as caught:
            read(path)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert messages[0].startswith(f"{path}: ")
    return messages[0]


def test_features_are_the_published_ones() -> None:
    """There are 14 features in the published order, each with a unit, and the label is none of them."""
    assert " ".join(FEATURE_NAMES) == (
        "pxj1 pyj1 pzj1 mj1 tau1j1 tau2j1 tau3j1 pxj2 pyj2 pzj2 mj2 tau1j2 tau2j2 tau3j2"
    )
    assert FEATURE_UNITS == ("GeV",) * 14
    assert LABEL not in FEATURE_NAMES


@pytest.mark.parametrize("layout", [{"complib": "blosc", "complevel": 9}, {"format": "table"}])
def test_events_are_read_by_name(tmp_path: Path, layout: dict[str, Any]) -> None:
    """Shuffled and further columns make no difference: features are float32 in order, labels int8."""
    frame = a_frame()
    shuffled = frame.assign(weight=1.0, name="x").sample(frac=1, axis=1, random_state=1)
    events = read_events(written(tmp_path / "events.h5", shuffled, **layout))
    assert events.features.dtype == np.float32
    assert events.features.shape == (60, 14)
    np.testing.assert_array_equal(events.features, frame[list(FEATURE_NAMES)].to_numpy(np.float32))
    assert events.labels is not None
    assert events.labels.dtype == np.int8
    np.testing.assert_array_equal(events.labels, frame[LABEL])


@pytest.mark.parametrize("dtype", ["i8", "i1", "u1", "bool", "f8", "f4"])
@pytest.mark.parametrize("layout", ["fixed", "table"])
def test_labels_of_any_numeric_dtype_are_the_same(tmp_path: Path, layout: str, dtype: str) -> None:
    """A label is 0 or 1 whether the file holds integers, floats or truth values."""
    frame = a_frame().astype({LABEL: dtype})
    events = read_events(written(tmp_path / "events.h5", frame, format=layout))
    assert events.labels is not None
    np.testing.assert_array_equal(events.labels, frame[LABEL].astype(int))


def test_a_file_without_labels_has_none(tmp_path: Path) -> None:
    """Without a label column all events count as background and none as signal."""
    events = read_events(written(tmp_path / "events.h5", a_frame().drop(columns=LABEL)))
    assert events.labels is None
    assert (len(events), len(events.background), len(events.signal)) == (60, 60, 0)


def test_the_label_divides_events() -> None:
    """Background and signal are the events of either label, in order, with their labels."""
    features = np.arange(4 * 14, dtype=np.float32).reshape(4, 14)
    events = Events(features, np.array([1, 0, 0, 1], np.int8))
    np.testing.assert_array_equal(events.background.features, features[[1, 2]])
    np.testing.assert_array_equal(events.signal.features, features[[0, 3]])
    for part, label in ((events.background, BACKGROUND), (events.signal, SIGNAL)):
        assert part.labels is not None
        assert part.labels.tolist() == [label, label]


@pytest.mark.parametrize("rows", [slice(1, 3), np.array([False, True, True]), np.array([1, 2])])
def test_rows_are_selected_with_their_labels(rows: Any) -> None:
    """A slice, a mask and indices select the same rows of features and labels."""
    events = Events(np.eye(3, 14, dtype=np.float32), np.array([0, 1, 0], np.int8))[rows]
    np.testing.assert_array_equal(events.features, np.eye(3, 14, dtype=np.float32)[1:])
    assert events.labels is not None
    assert events.labels.tolist() == [1, 0]


def test_degenerate_rows_pass_unchanged(tmp_path: Path) -> None:
    """Zero tau, zero mass and slightly negative mass are real and stay as they are."""
    frame = a_frame()
    frame.loc[3, ["tau1j2", "tau2j2", "tau3j2", "mj2"]] = 0.0
    frame.loc[4, "mj2"] = -3e-5
    events = read_events(written(tmp_path / "events.h5", frame))
    assert events.features[3, 10:].tolist() == [0.0] * 4
    assert events.features[4, 10] == np.float32(-3e-5)


@pytest.mark.parametrize("rows", [1, 7, 60, 1000])
def test_a_stream_is_the_whole_in_parts(tmp_path: Path, rows: int) -> None:
    """Streamed events, at most `rows` at a time, are those read at once."""
    path = written(tmp_path / "events.h5", a_frame())
    whole, parts = read_events(path), list(stream_events(path, rows=rows))
    assert max(len(part) for part in parts) == min(rows, 60)
    np.testing.assert_array_equal(np.concatenate([part.features for part in parts]), whole.features)
    np.testing.assert_array_equal(
        np.concatenate([part.labels for part in parts if part.labels is not None]), whole.labels
    )


@pytest.mark.parametrize("rows", [slice(0, 1), slice(0, 200_000)])
@pytest.mark.parametrize("labelled", [True, False])
def test_events_round_trip(tmp_path: Path, rows: slice, labelled: bool) -> None:
    """What is written is read back bit for bit, by pandas too: float32 features, then int64 labels if known."""
    path, generator = tmp_path / "events.h5", np.random.default_rng(2)
    features = generator.normal(0, 500, (200_000, 14)).astype(np.float32)
    labels = generator.integers(0, 2, 200_000).astype(np.int8) if labelled else None
    events = Events(features, labels)[rows]
    write_events(path, events)
    again = read_events(path)
    np.testing.assert_array_equal(again.features, events.features)
    assert (again.labels is None) == (events.labels is None)
    if again.labels is not None:
        np.testing.assert_array_equal(again.labels, events.labels)
    expected = pd.DataFrame(events.features, columns=list(FEATURE_NAMES))
    if events.labels is not None:
        expected[LABEL] = events.labels.astype(np.int64)
    pd.testing.assert_frame_equal(pd.read_hdf(path), expected, check_index_type=False)


def test_no_events_are_not_written(tmp_path: Path) -> None:
    """No file appears for no events."""
    with pytest.raises(EventsError, match="no rows to write"):
        write_events(tmp_path / "events.h5", Events(np.empty((0, 14), np.float32)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("value", "shown"), [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf"), (1e39, "1e+39")])
def test_values_that_are_not_finite_are_located(tmp_path: Path, value: float, shown: str) -> None:
    """The first row, its column and value are named, and how many there are; float32 must be able to hold them."""
    frame = a_frame()
    frame.loc[[11, 30], "tau2j1"] = value
    message = refusal(written(tmp_path / "events.h5", frame))
    assert f"row 11 of '/df', column 'tau2j1', is {shown}, expected a number that is finite in float32" in message
    assert "in rows 0 to 59 there are 2 such values" in message


@pytest.mark.parametrize(("value", "shown"), [(2, "2"), (-1, "-1"), (0.5, "0.5"), (np.nan, "nan"), (256, "256")])
def test_labels_other_than_0_and_1_are_located(tmp_path: Path, value: float, shown: str) -> None:
    """A label that is neither background nor signal is named with its row, never rounded or wrapped."""
    frame = a_frame().astype({LABEL: type(value)})
    frame.loc[[7, 9, 50], LABEL] = value
    message = refusal(written(tmp_path / "events.h5", frame))
    assert f"row 7 of '/df', column 'label', is {shown}, expected 0 (background) or 1 (signal)" in message
    assert "there are 3 such values" in message


def test_a_stream_reports_rows_of_the_file(tmp_path: Path) -> None:
    """Events before the offending chunk are yielded, and its row is counted from the file's beginning."""
    frame = a_frame()
    frame.loc[25, "pxj1"] = np.nan
    stream = stream_events(written(tmp_path / "events.h5", frame), rows=20)
    assert len(next(stream)) == 20
    with pytest.raises(EventsError, match=r"row 25 of '/df', column 'pxj1', is nan.* in rows 20 to 39 there are 1"):
        next(stream)


def test_a_missing_feature_is_named(tmp_path: Path) -> None:
    """A file that lacks a feature is refused with its name and a near match."""
    frame = a_frame().rename(columns={"tau3j2": "tau3_j2"})
    assert "'/df' has no column 'tau3j2' (did you mean 'tau3_j2'?)" in refusal(written(tmp_path / "events.h5", frame))


def test_labels_that_are_words_are_refused(tmp_path: Path) -> None:
    """Labels must be numbers."""
    frame = a_frame().assign(label="signal")
    assert "column 'label' of '/df' holds" in refusal(written(tmp_path / "events.h5", frame))


def test_one_of_several_frames_is_chosen(tmp_path: Path) -> None:
    """The key chooses the frame, for reading at once and for streaming."""
    path = tmp_path / "events.h5"
    a_frame().to_hdf(path, key="background", mode="w")
    a_frame(9).to_hdf(path, key="signal")
    assert "Choose one with --key" in refusal(path)
    assert len(read_events(path, "signal")) == 9
    assert sum(map(len, stream_events(path, "background"))) == 60


def test_particles_are_not_features(tmp_path: Path) -> None:
    """Numbered columns, such as the published particles, are refused with the way on."""
    path = written(tmp_path / "events.h5", pd.DataFrame(np.zeros((2, 2101))))
    message = refusal(path)
    assert "the 2101 columns of '/df' are numbered, expected the names pxj1, " in message
    assert "make jets and features of them first" in message


def test_the_published_particles_are_recognised() -> None:
    """The real particle-level file is refused as particles."""
    if not RAW.exists():
        pytest.skip(f"{RAW} is not here: it is real data, and not part of the project")
    assert "If they are particles" in refusal(RAW)
