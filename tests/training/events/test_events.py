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
    open_events,
    read_background,
    read_events,
    write_events,
)
from training.events.layout import Layout


def a_frame(rows: int = 60) -> pd.DataFrame:
    """Return events as the published files hold them: float64 features, then an int64 label."""
    values = np.random.default_rng(5).normal(0, 500, (rows, len(FEATURE_NAMES)))
    return pd.DataFrame(values, columns=list(FEATURE_NAMES)).assign(label=np.arange(rows) % 4 == 0).astype({LABEL: int})


def written(path: Path, frame: pd.DataFrame, **layout: Any) -> Path:
    """Write a frame as pandas does, and give the path."""
    frame.to_hdf(path, key="df", mode="w", **layout)
    return path


def refusal(path: Path, **options: Any) -> str:
    """Return the message with which a file is refused."""
    with pytest.raises(EventsError) as caught:
        read_events(path, **options)
    return str(caught.value)


def test_features_are_the_published_ones() -> None:
    """There are 14 features in the published order, each with a unit, and the label is none of them."""
    assert " ".join(FEATURE_NAMES) == (
        "pxj1 pyj1 pzj1 mj1 tau1j1 tau2j1 tau3j1 pxj2 pyj2 pzj2 mj2 tau1j2 tau2j2 tau3j2"
    )
    assert FEATURE_UNITS == ("GeV",) * 14
    assert LABEL not in FEATURE_NAMES


@pytest.mark.parametrize("layout", [{"complib": "blosc", "complevel": 9}, {"format": "table"}])
def test_events_are_read_by_name(tmp_path: Path, layout: dict[str, Any]) -> None:
    """Shuffled and further columns make no difference: features are float32 in order, labels int8.

    Of several frames the key chooses one.
    """
    frame, path = a_frame(), tmp_path / "events.h5"
    frame.loc[3, ["tau1j2", "tau2j2", "tau3j2", "mj2"]] = 0.0  # degenerate rows are real, and stay as they are
    frame.loc[4, "mj2"] = -3e-5
    written(path, frame.assign(run=1.0, name="x").sample(frac=1, axis=1, random_state=1), **layout)
    a_frame(9).to_hdf(path, key="signal")
    events = read_events(path, Layout(("df",)))
    assert events.labels is not None
    assert events.features.dtype == np.float32
    assert events.labels.dtype == np.int8
    np.testing.assert_array_equal(events.features, frame[list(FEATURE_NAMES)].to_numpy(np.float32))
    np.testing.assert_array_equal(events.labels, frame[LABEL])
    assert len(read_events(path, Layout(("signal",)))) == 9
    assert "Choose one with --key" in refusal(path)


def test_every_label_above_0_is_signal_in_any_column(tmp_path: Path) -> None:
    """The third black box has two signals, 1 and 2: both are signal, and told apart only where the file is asked.

    A column that is named is read instead of the one called 'label', and must be there.
    """
    labels = [0, 1, 2, 0, 127]
    path = written(tmp_path / "events.h5", a_frame(5).assign(truth=labels))
    events = read_events(path, Layout(label="truth"))
    assert events.labels is not None
    assert events.labels.tolist() == [0, 1, 1, 0, 1]
    assert len(read_background(path, Layout(label="truth"))) == 2
    with open_events(path, Layout(label="truth")) as file:
        assert file.read_labels().tolist() == labels  # type: ignore[union-attr]
    assert "'/df' has no column 'is_signal'" in refusal(path, layout=Layout(label="is_signal"))


@pytest.mark.parametrize(
    ("columns", "hint"),
    [
        ({}, ""),
        ({"is_signal": 1}, "; is it 'is_signal'? Then name it with --label"),
        ({"Label": 1}, "; is it 'Label'?"),
    ],
)
def test_events_without_labels_are_background_and_say_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, columns: dict[str, int], hint: str
) -> None:
    """Without labels all events count as background: in one line that names a column that may hold them."""
    path = written(tmp_path / "events.h5", a_frame().drop(columns=LABEL).assign(run=1, **columns))
    events = read_events(path)
    assert events.labels is None
    assert (len(events), len(events.background), len(events.signal)) == (60, 60, 0)
    (line,) = caplog.messages
    assert line.startswith(f"{path}: 60 events, no column 'label': all taken as background{hint}")
    assert bool(hint) or line.endswith("background")


def test_weights_are_said_to_be_unused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A column of weights is not taken into account, and not in silence."""
    path = written(tmp_path / "events.h5", a_frame().assign(event_weight=0.5))
    read_events(path)
    assert caplog.messages == [f"{path}: column 'event_weight' is not used: every event counts once"]


def test_labels_come_from_a_file_of_their_own(tmp_path: Path, subtests: pytest.Subtests) -> None:
    """The key of a black box has one label a line, in the order of the events; anything else is refused by place."""
    path, key = written(tmp_path / "events.h5", a_frame(5).drop(columns=LABEL)), tmp_path / "black_box.masterkey"
    key.write_text("0.0\n1.0\n2\n0\n1\n")
    events = read_events(path, labels=key)
    assert events.labels is not None
    assert events.labels.tolist() == [0, 1, 1, 0, 1]
    for text, reason in {
        "0\n1\n": "holds 2 labels, expected 5: one for each event",
        "0 1 0 -1 0": "label 4 is -1, expected 0 (background) or a whole number",
        "0 1 0.5 1 0": "label 3 is 0.5, expected",
        "label\n0\n1\n0\n1\n": "could not convert string to float: 'label'; expected text with one label a line",
        "0 1 0 1 \x89": "expected text with one label a line",
    }.items():
        with subtests.test(text=text):
            key.write_bytes(text.encode("latin-1"))
            assert refusal(path, labels=key).startswith(f"{key}: ")
            assert reason in refusal(path, labels=key)
    assert "No such file" in refusal(path, labels=tmp_path / "absent")


def test_rows_are_selected_with_their_labels() -> None:
    """A slice, a mask, indices and the label itself select rows of features and labels, in their order."""
    features = np.arange(4 * 14, dtype=np.float32).reshape(4, 14)
    events = Events(features, np.array([SIGNAL, BACKGROUND, BACKGROUND, SIGNAL], np.int8))
    middle = (events[1:3], events[np.array([False, True, True, False])], events[np.array([1, 2])], events.background)
    for part, rows in (*((part, [1, 2]) for part in middle), (events.signal, [0, 3])):
        np.testing.assert_array_equal(part.features, features[rows])
        np.testing.assert_array_equal(part.labels, events.labels[rows])  # type: ignore[index]


def test_any_rows_of_an_open_file_are_those_of_the_whole(tmp_path: Path, subtests: pytest.Subtests) -> None:
    """A file that need not fit in memory is read a range of rows at a time, in float32 or as it is."""
    frame = a_frame()
    path = written(tmp_path / "events.h5", frame)
    whole = read_events(path)
    with open_events(path) as file:
        assert len(file) == 60
        for start, stop in ((0, 60), (0, 1), (7, 53), (59, 1000)):
            with subtests.test(start=start, stop=stop):
                part = file.read(start, stop)
                np.testing.assert_array_equal(part.features, whole.features[start:stop])
                np.testing.assert_array_equal(part.labels, whole[start:stop].labels)
        np.testing.assert_array_equal(file.read_features(), frame[list(FEATURE_NAMES)])


@pytest.mark.parametrize(("count", "labelled"), [(1, False), (150_000, True)])
def test_events_round_trip(tmp_path: Path, count: int, labelled: bool) -> None:
    """What is written is read back bit for bit, by pandas too: float32 features, then int64 labels if known."""
    path, generator = tmp_path / "events.h5", np.random.default_rng(2)
    labels = generator.integers(0, 2, count).astype(np.int8) if labelled else None
    events = Events(generator.normal(0, 500, (count, 14)).astype(np.float32), labels)
    write_events(path, events)
    again = read_events(path)
    np.testing.assert_array_equal(again.features, events.features)
    np.testing.assert_array_equal(again.labels, events.labels)
    expected = pd.DataFrame(events.features, columns=list(FEATURE_NAMES))
    if events.labels is not None:
        expected[LABEL] = events.labels.astype(np.int64)
    pd.testing.assert_frame_equal(pd.read_hdf(path), expected, check_index_type=False)


def test_values_that_are_not_finite_are_located(tmp_path: Path, subtests: pytest.Subtests) -> None:
    """The first row, its column and value are named, and how many there are; float32 must be able to hold them."""
    for value, shown in ((np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf"), (1e39, "1e+39")):
        with subtests.test(shown):
            frame = a_frame()
            frame.loc[[11, 30], "tau2j1"] = value
            path = written(tmp_path / "events.h5", frame)
            message = refusal(path)
            where = f"{path}: row 11 of '/df', column 'tau2j1', is {shown}"
            assert message.startswith(f"{where}, expected a number that is finite in float32")
            assert "in rows 0 to 59 there are 2 such values" in message
    with open_events(path) as file, pytest.raises(EventsError, match=r"row 30 .* in rows 20 to 39 there are 1"):
        file.read(20, 40)


def test_values_that_are_no_labels_are_located(tmp_path: Path, subtests: pytest.Subtests) -> None:
    """A label that is neither background nor signal is named with its row, never rounded or wrapped."""
    for value in (-1, 0.5, np.nan, np.inf, 128, 256):
        with subtests.test(value=value):
            frame = a_frame().astype({LABEL: type(value)})
            frame.loc[[7, 9, 50], LABEL] = value
            message = refusal(written(tmp_path / "events.h5", frame))
            assert f"row 7 of '/df', column 'label', is {value:g}, expected 0 (background) or a whole number" in message
            assert "there are 3 such values" in message
    assert "column 'label' of '/df' holds" in refusal(written(tmp_path / "events.h5", a_frame().assign(label="signal")))


def test_a_missing_feature_is_named(tmp_path: Path, subtests: pytest.Subtests) -> None:
    """A file that lacks a feature is refused with its name, and with one that differs in spelling alone.

    Numbered columns, as the published particles have, come with the way on.
    """
    for frame, reason in (
        (a_frame().rename(columns={"tau3j2": "Tau3_j2"}), "'/df' has no column 'tau3j2' (did you mean 'Tau3_j2'?)"),
        (a_frame().rename(columns={"mj1": "m_1", "mj2": "m_2"}), "has no column 'mj1', 'mj2'. It has"),
        (pd.DataFrame(np.zeros((2, 2101))), "the 2101 columns of '/df' are numbered, expected the names pxj1, "),
        (pd.DataFrame(np.zeros((2, 2101))), "make jets and features of them first"),
    ):
        with subtests.test(reason):
            assert reason in refusal(written(tmp_path / "events.h5", frame))
