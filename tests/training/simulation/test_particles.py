"""A particle-level file becomes the features of its events, in its order, or is refused with the row that is wrong."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from tests.training.commands import refused
from training.__main__ import main
from training.errors import EventsError
from training.events.events import FEATURE_NAMES, LABEL, read_events
from training.files import sha256_of
from training.simulation.jets import Objects, jet_features
from training.simulation.particles import SLICE_EVENTS, Slice

PUBLISHED_OBJECTS = 700


def particles(events: int, width: int, seed: int = 1) -> NDArray[np.float64]:
    """Draw events as the published file has them: (events, width, (pT, eta, phi)), zero-padded and not sorted."""
    rng = np.random.default_rng(seed)
    drawn = np.zeros((events, width, 3))
    for event in drawn:
        count = int(rng.integers(1, width + 1))
        side = rng.random(count) < 0.5
        event[:count, 0] = rng.exponential(2500.0 / count, count)
        event[:count, 1] = np.where(side, 0.3, -0.5) + rng.normal(0, 0.2, count)
        event[:count, 2] = np.where(side, 1.0, 1.0 - np.pi) + rng.normal(0, 0.2, count)
    return drawn


def expected(drawn: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the features that jets give, the padding taken away one event at a time."""
    present = [event[event[:, 0] > 0] for event in drawn]
    counts = np.array([len(event) for event in present], dtype=np.int64)
    return jet_features(Objects(counts, *np.concatenate(present).T)).astype(np.float32)


def written(path: Path, drawn: NDArray[np.float64], labels: NDArray[Any] | None = None, key: str = "df") -> Path:
    """Write events as pandas writes them with numbered columns, the label last."""
    columns = drawn.reshape(len(drawn), -1)
    if labels is not None:
        columns = np.column_stack([columns, labels])
    pd.DataFrame(columns).to_hdf(path, key=key, mode="a")
    return path


def refusal(raw: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line with which a file is refused; no output appears."""
    out = raw.with_name("out.h5")
    line = refused(capsys, "features", str(raw), str(out), "--processes", "1")
    assert not out.exists()
    assert line.startswith(f"error: {raw}: ")
    return line


def test_features_are_those_of_the_jets(tmp_path: Path) -> None:
    """The published layout, columns 0 to 2099 and the label last, gives the features of its jets and its labels."""
    drawn, labels = particles(25, PUBLISHED_OBJECTS), np.arange(25) % 3 // 2
    raw, out = written(tmp_path / "raw.h5", drawn, labels), tmp_path / "out.h5"
    assert main(["features", str(raw), str(out), "--processes", "1"]) == 0
    events = read_events(out)
    np.testing.assert_array_equal(events.features, expected(drawn))
    assert events.labels is not None
    np.testing.assert_array_equal(events.labels, labels)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.h5", "raw.h5"]
    assert list(pd.read_hdf(out)) == [*FEATURE_NAMES, LABEL]


def test_a_file_without_label_gives_events_without_label(tmp_path: Path) -> None:
    """With columns of objects alone no label is made up, and the last object counts; an event of none has zeros."""
    drawn = particles(25, 8)
    drawn[[0, 3]] = 0.0
    (rows,) = Slice(written(tmp_path / "raw.h5", drawn), "/df", 0, 25).make()
    np.testing.assert_array_equal(rows, expected(drawn))
    assert not rows[[0, 3]].any()


def test_a_named_label_after_the_objects_is_kept(tmp_path: Path) -> None:
    """A label that was added under a name, as the keys of the black boxes are, comes along, a second signal too."""
    drawn = particles(6, 4)
    raw, out = tmp_path / "raw.h5", tmp_path / "out.h5"
    frame = pd.DataFrame(drawn.reshape(6, -1))
    frame["label"] = [0.0, 1.0, 2.0, 0.0, 2.0, 1.0]
    with pytest.warns(pd.errors.PerformanceWarning):
        frame.to_hdf(raw, key="df")
    assert main(["features", str(raw), str(out), "--processes", "1"]) == 0
    np.testing.assert_array_equal(read_events(out).features, expected(drawn))
    assert pd.read_hdf(out)[LABEL].tolist() == [0, 1, 2, 0, 2, 1]


def test_slices_keep_the_order(tmp_path: Path) -> None:
    """A file longer than a slice, on two processes, keeps every event in its row."""
    count = SLICE_EVENTS + 5
    drawn, labels = particles(count, 4), np.arange(count) % 2
    raw, out = written(tmp_path / "raw.h5", drawn, labels), tmp_path / "out.h5"
    assert main(["features", str(raw), str(out), "--processes", "2"]) == 0
    events = read_events(out)
    np.testing.assert_array_equal(events.features, expected(drawn))
    assert events.labels is not None
    np.testing.assert_array_equal(events.labels, labels)


def test_columns_that_are_no_triples_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], subtests: pytest.Subtests
) -> None:
    """Two columns after the triples are neither an object nor a label; features are to be used as they are."""
    for names in (range(2), range(5), range(8), FEATURE_NAMES):
        with subtests.test(columns=len(names)):
            raw = tmp_path / f"{len(names)}.h5"
            pd.DataFrame(np.ones((4, len(names))), columns=list(names)).to_hdf(raw, key="df")
            first_to_last = f"has {len(names)} columns, '{names[0]}' to '{names[-1]}'"
            message = refusal(raw, capsys)
            assert f"{first_to_last}, expected numbered ones: pT, eta, phi" in message
            assert "If it holds features already, use it as it is" in message


def test_impossible_objects_are_refused(tmp_path: Path, subtests: pytest.Subtests) -> None:
    """What no detector can have seen is an error that names the file, the row, the object, the rule and the remedy."""
    for place, value in (
        *(((3, 2, 0), np.nan), ((3, 2, 1), np.inf), ((3, 2, 2), -np.inf)),
        *(((3, 2, 0), -1.0), ((3, 2, 0), 1e300), ((3, 2, 1), -400.0)),
    ):
        with subtests.test(place=place, value=value):
            drawn = particles(6, 4)
            drawn[3, 2] = [10.0, 0.1, 0.2]
            drawn[place] = value
            raw = written(tmp_path / f"{place}{value}.h5", drawn, np.zeros(6, np.int64))
            with pytest.raises(EventsError) as caught:
                list(Slice(raw, "/df", 2, 6).make())
            assert str(caught.value) == (
                f"{raw}: row 3 of '/df', object 2, has pT, eta, phi = {drawn[3, 2].tolist()}, expected finite numbers, "
                "0 <= pT <= 1e+06 GeV and |eta| <= 20. Correct or drop the row."
            )


def test_a_label_is_a_whole_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A last column that is no label is refused with its row: it would otherwise be cut to an integer."""
    for label in (-1.0, np.nan, 0.5):
        labels = np.array([0.0, 1.0, 0.0, 0.0, label, 0.0])
        raw = written(tmp_path / f"{label}.h5", particles(6, 4), labels)
        reason = f"row 4 of '/df', column '12', is {label:g}, expected 0 (background) or a whole number"
        with pytest.raises(EventsError) as caught:
            list(Slice(raw, "/df", 0, 6).make())
        assert reason in str(caught.value)
    assert reason in refusal(raw, capsys)  # from another process too


def test_what_cannot_work_is_refused_before_any_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An output that is the particle-level file, a missing file and no process are refused, and the file stays."""
    raw = written(tmp_path / "raw.h5", particles(5, 8))
    before = raw.read_bytes()
    assert "This is the input" in refused(capsys, "features", str(raw), str(raw))
    assert "there is no such file" in refusal(tmp_path / "absent.h5", capsys)
    line = refused(capsys, "features", str(raw), str(tmp_path / "out.h5"), "--processes", "0", status=2)
    assert "--processes: 0 processes, expected 1 to 1024" in line
    assert raw.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["raw.h5"]


def test_parts_of_another_group_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The key chooses a group of the file, and parts of one group are never taken for those of another."""
    raw, out = tmp_path / "raw.h5", tmp_path / "out.h5"
    for key, seed in (("a", 1), ("b", 2)):
        written(raw, particles(5, 8, seed), key=key)
    assert "Choose one with --key" in refusal(raw, capsys)
    begun = {"raw_sha256": sha256_of(raw), "key": "/a", "slice_events": SLICE_EVENTS}
    (tmp_path / "out.h5.parts").mkdir()
    (tmp_path / "out.h5.parts" / "manifest.json").write_text(json.dumps(begun))
    (tmp_path / "out.h5.parts" / "events-000000005-000000010.npy").touch()
    line = refused(capsys, "features", str(raw), str(out), "--key", "b", "--processes", "1")
    assert "its key is /a, expected /b" in line
    assert main(["features", str(raw), str(out), "--key", "a", "--processes", "1"]) == 0
    np.testing.assert_array_equal(read_events(out).features, expected(particles(5, 8, 1)))
