"""Whole files are scored as single events are, and nothing that they held is changed or lost."""

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from pyarrow import csv, parquet

from service.model.artefact import OUTPUT_NAME, load_artefact
from service.model.scorer import Scorer
from tests.artefacts import RTOL, metadata, model, oracle, write_artefact
from tests.training import samples
from training.__main__ import main
from training.evaluation.scoring import TOP_ANOMALIES, WRITERS, summary
from training.events.events import FEATURE_NAMES, LABEL

MANY = 65536 + 1000
"""More events than are in memory at a time."""
EVERY_FORMAT = pytest.mark.parametrize("suffix", WRITERS)


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write an artefact of the published features whose score anybody can compute."""
    return write_artefact(tmp_path_factory.mktemp("model") / "model.onnx", model(metadata(14, FEATURE_NAMES)))


def a_frame(events: int, labelled: bool = True) -> pd.DataFrame:
    """Return events as the published files hold them: float64 features that float32 does not, then an int64 label."""
    values = samples.background(events).astype(np.float64) * (1 + 1e-10)
    frame = pd.DataFrame(values, columns=list(FEATURE_NAMES))
    return frame.assign(**{LABEL: np.arange(events) % 7 // 6}) if labelled else frame


def written(path: Path, frame: pd.DataFrame) -> Path:
    """Write a frame as pandas does, and give the path."""
    frame.to_hdf(path, key="df", mode="w")
    return path


def opened(path: Path) -> pd.DataFrame:
    """Read an output of any format, its floats to the last bit."""
    if path.suffix == ".csv":
        return csv.read_csv(path).to_pandas()
    if path.suffix == ".parquet":
        return parquet.read_table(path).to_pandas()
    return pd.DataFrame(pd.read_hdf(path))


def command(events: Path, artefact: Path, out: Path, *flags: str) -> list[str]:
    """Return the arguments that score a file."""
    return ["score", str(events), "--model", str(artefact), "--out", str(out), *flags]


def expected_scores(artefact: Path, frame: pd.DataFrame) -> NDArray[np.float32]:
    """Return what the service would answer for every event of a frame."""
    return Scorer(load_artefact(artefact)).score(frame[list(FEATURE_NAMES)].to_numpy(np.float32))


def refusal(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line with which a command ends with exit code 1, a progress bar apart."""
    assert main(arguments) == 1
    *progress, line = capsys.readouterr().err.splitlines()
    assert all("events/s" in text or not text for text in progress)
    assert line.startswith("error: ")
    return line


@EVERY_FORMAT
@pytest.mark.parametrize("events", [1, 1000, MANY])
def test_features_and_labels_are_kept(artefact: Path, tmp_path: Path, suffix: str, events: int) -> None:
    """Every format holds each feature in float64 as the file has it, the label, and the score of its own event."""
    frame, out = a_frame(events), tmp_path / f"scores{suffix}"
    assert main(command(written(tmp_path / "events.h5", frame), artefact, out)) == 0
    found = opened(out)
    assert list(found) == [*FEATURE_NAMES, LABEL, OUTPUT_NAME]
    pd.testing.assert_frame_equal(found[list(frame)], frame, check_exact=True)
    scores = found[OUTPUT_NAME].to_numpy(np.float32)
    np.testing.assert_array_equal(scores, expected_scores(artefact, frame))
    np.testing.assert_allclose(scores[:50], oracle(frame[list(FEATURE_NAMES)].to_numpy(np.float32)[:50]), rtol=RTOL)


@EVERY_FORMAT
def test_events_without_label_get_none(artefact: Path, tmp_path: Path, suffix: str) -> None:
    """A file without labels is scored without one being made up."""
    frame, out = a_frame(100, labelled=False), tmp_path / f"scores{suffix}"
    assert main(command(written(tmp_path / "events.h5", frame), artefact, out)) == 0
    found = opened(out)
    assert list(found) == [*FEATURE_NAMES, OUTPUT_NAME]
    pd.testing.assert_frame_equal(found[list(FEATURE_NAMES)], frame, check_exact=True)


@EVERY_FORMAT
def test_float32_files_stay_float32(artefact: Path, tmp_path: Path, suffix: str) -> None:
    """Features of a float32 file come back as the same float32 numbers."""
    features, out = samples.background(100), tmp_path / f"scores{suffix}"
    assert main(command(samples.written(tmp_path / "events.h5", features), artefact, out)) == 0
    found = opened(out)[list(FEATURE_NAMES)].to_numpy(np.float32)
    np.testing.assert_array_equal(found, features)
    if suffix != ".csv":
        assert set(opened(out).dtypes) == {np.dtype(np.float32)}


def test_other_columns_and_orders_make_no_difference(artefact: Path, tmp_path: Path) -> None:
    """Features are found by name in a table of any order, and the output has them in the published one."""
    frame = a_frame(100)
    shuffled = frame.assign(weight=1.0).sample(frac=1, axis=1, random_state=1)
    shuffled.to_hdf(tmp_path / "events.h5", key="df", mode="w", format="table")
    assert main(command(tmp_path / "events.h5", artefact, tmp_path / "scores.parquet")) == 0
    found = opened(tmp_path / "scores.parquet")
    pd.testing.assert_frame_equal(found[list(frame)], frame, check_exact=True)
    np.testing.assert_array_equal(found[OUTPUT_NAME], expected_scores(artefact, frame))


def test_the_key_chooses_among_several_frames(
    artefact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file of several frames asks for a key, and scores the one that is named."""
    events, out = tmp_path / "events.h5", tmp_path / "scores.csv"
    a_frame(10).to_hdf(events, key="one")
    a_frame(20).to_hdf(events, key="other")
    assert "Choose one with --key" in refusal(command(events, artefact, out), capsys)
    assert main(command(events, artefact, out, "--key", "other")) == 0
    assert len(opened(out)) == 20


@EVERY_FORMAT
@pytest.mark.parametrize("row", [3, MANY - 1])
def test_unreadable_events_leave_no_file(
    artefact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str, row: int
) -> None:
    """A row that is no number, early or beyond the first chunk, is an error of one line; an older output survives."""
    frame, out = a_frame(MANY), tmp_path / f"scores{suffix}"
    frame.loc[row, "mj2"] = np.nan
    events = written(tmp_path / "events.h5", frame)
    message = refusal(command(events, artefact, out), capsys)
    assert f"{events}: row {row} of '/df', column 'mj2', is nan" in message
    assert not out.exists()
    out.write_text("old")
    refusal(command(events, artefact, out), capsys)
    assert out.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["events.h5", out.name]


@pytest.mark.parametrize("name", ["scores.txt", "scores", "scores.CSV", "scores.csv.gz"])
def test_an_unknown_ending_is_a_mistake_in_the_command(
    artefact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """The known endings are listed, with exit code 2, before anything is read."""
    with pytest.raises(SystemExit) as ended:
        main(command(tmp_path / "absent.h5", artefact, tmp_path / name))
    assert ended.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.endswith(f"--out is {tmp_path / name}, expected a name that ends in .csv, .parquet, .h5")


def test_a_missing_file_is_named(artefact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Events, model or folder that are not there are one line each, which names the path."""
    events, absent = written(tmp_path / "events.h5", a_frame(5)), tmp_path / "absent"
    for arguments in (
        command(absent, artefact, tmp_path / "scores.csv"),
        command(events, absent, tmp_path / "scores.csv"),
        command(events, artefact, absent / "scores.csv"),
    ):
        assert str(absent) in refusal(arguments, capsys)


def test_a_model_of_other_features_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model that takes other features, or the same in another order, scores no events file."""
    events = written(tmp_path / "events.h5", a_frame(5))
    for names in (["a", "b"], [*FEATURE_NAMES[1:], FEATURE_NAMES[0]]):
        other = write_artefact(tmp_path / "model.onnx", model(metadata(names=names)))
        message = refusal(command(events, other, tmp_path / "scores.csv"), capsys)
        assert f"takes the features {', '.join(names)}, and an events file has" in message


def test_the_summary_is_right(artefact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command prints who scored, NumPy's statistics of the scores, and the rows of the highest in order."""
    frame, out = a_frame(500), tmp_path / "scores.h5"
    assert main(command(written(tmp_path / "events.h5", frame), artefact, out)) == 0
    scores = expected_scores(artefact, frame).astype(np.float64)
    first, statistics, _, _, *top = capsys.readouterr().out.splitlines()
    assert first == f"{out}: scored by {load_artefact(artefact).identity}"
    assert statistics == (
        f"500 events, anomaly score {scores.min():.6g} to {scores.max():.6g}, mean {scores.mean():.6g}, "
        f"median {np.median(scores):.6g}, standard deviation {scores.std():.6g}"
    )
    expected = sorted(range(500), key=lambda row: -scores[row])[:TOP_ANOMALIES]
    assert [line.split() for line in top] == [[str(row), f"{scores[row]:.6g}"] for row in expected]


def test_few_events_are_all_listed() -> None:
    """With fewer events than the list is long each is there once, equal scores in the order of the file."""
    lines = summary(np.array([1.0, 3.0, 3.0], np.float32)).splitlines()
    assert lines[0] == "3 events, anomaly score 1 to 3, mean 2.33333, median 3, standard deviation 0.942809"
    assert [line.split() for line in lines[3:]] == [["1", "3"], ["2", "3"], ["0", "1"]]


def test_a_file_is_not_scored_over_itself(artefact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An output that is the input is refused, and the input stays."""
    events = written(tmp_path / "events.h5", a_frame(10))
    before = events.read_bytes()
    assert "This is the input" in refusal(command(events, artefact, events), capsys)
    assert events.read_bytes() == before


def test_an_output_is_an_events_file(artefact: Path, tmp_path: Path) -> None:
    """What was written as HDF5 can be scored again, and opens without pandas."""
    frame = a_frame(50)
    first, second = tmp_path / "first.h5", tmp_path / "second.h5"
    assert main(command(written(tmp_path / "events.h5", frame), artefact, first)) == 0
    assert main(command(first, artefact, second)) == 0
    pd.testing.assert_frame_equal(opened(second), opened(first), check_exact=True)
    with h5py.File(first) as file:
        assert list(file) == ["df"]
