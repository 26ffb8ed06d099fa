"""Whole files are scored as single events are, and what they held is kept or said to be lost."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import msgspec
import numpy as np
import pandas as pd
import pytest
import uproot
from numpy.typing import NDArray
from pyarrow import csv, parquet

from service import SHIPPED_MODEL
from service.model.artefact import OUTPUT_NAME, load_artefact
from service.model.explanation import Explainer
from service.model.scorer import Scorer
from tests.artefacts import RTOL, metadata, model, oracle, write_artefact
from tests.training import samples
from training.__main__ import main
from training.errors import EventsError
from training.evaluation.model import open_scorer
from training.evaluation.scoring import CONTRIBUTION, REFERENCE_SCORE, TOP_ANOMALIES, Statistics, score_file
from training.events.events import FEATURE_NAMES, LABEL, ROWS_PER_CHUNK, open_events
from training.events.hdf5_writer import write_frame
from training.events.parquet import write_parquet
from training.events.root import TREE
from training.events.writers import WRITERS

MANY = ROWS_PER_CHUNK + 1000
"""More events than are in memory at a time."""
EVERY_FORMAT = pytest.mark.parametrize("suffix", [".csv", ".parquet", ".h5"])


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write an artefact of the published features whose score anybody can compute."""
    return write_artefact(tmp_path_factory.mktemp("model") / "model.onnx", model(metadata(14, FEATURE_NAMES)))


def a_frame(events: int) -> pd.DataFrame:
    """Return events as the published files hold them: float64 features that float32 does not, then an int64 label."""
    values = samples.background(events).astype(np.float64) * (1 + 1e-10)
    return pd.DataFrame(values, columns=list(FEATURE_NAMES)).assign(**{LABEL: np.arange(events) % 7 // 6})


def written(path: Path, frame: pd.DataFrame) -> Path:
    """Write a frame as pandas does, and give the path."""
    frame.to_hdf(path, key="df", mode="w")
    return path


def opened(path: Path) -> pd.DataFrame:
    """Read an output of any format, its floats to the last bit."""
    name = path.name.lower()
    if name.endswith((".csv", ".csv.gz")):
        return csv.read_csv(path).to_pandas()
    if name.endswith((".parquet", ".pq")):
        return parquet.read_table(path).to_pandas()
    if name.endswith(".root"):
        with uproot.open(path) as file:
            return pd.DataFrame(file[TREE].arrays(library="np"))
    return pd.DataFrame(pd.read_hdf(path))


def command(events: Path, artefact: Path, out: Path, *flags: str) -> list[str]:
    """Return the arguments that score a file."""
    return ["score", str(events), "--model", str(artefact), "--out", str(out), *flags]


def scored(events: Path, artefact: Path, out: Path, *flags: str) -> pd.DataFrame:
    """Score a file and read the output."""
    assert main(command(events, artefact, out, *flags)) == 0
    return opened(out)


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
@pytest.mark.parametrize("events", [1, MANY])
def test_features_and_labels_are_kept(
    artefact: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str, events: int
) -> None:
    """Every format holds each feature in float64 as the file has it, the label, and the score of its own event."""
    frame = a_frame(events)
    found = scored(written(tmp_path / "events.h5", frame), artefact, tmp_path / f"scores{suffix}")
    assert list(found) == [*FEATURE_NAMES, LABEL, OUTPUT_NAME]
    pd.testing.assert_frame_equal(found[list(frame)], frame, check_exact=True)
    scores = found[OUTPUT_NAME].to_numpy(np.float32)
    np.testing.assert_array_equal(scores, expected_scores(artefact, frame))
    np.testing.assert_allclose(scores[:50], oracle(frame[list(FEATURE_NAMES)].to_numpy(np.float32)[:50]), rtol=RTOL)
    assert caplog.messages == []


@EVERY_FORMAT
def test_float32_files_stay_float32(artefact: Path, tmp_path: Path, suffix: str) -> None:
    """Features of a float32 file come back as the same float32 numbers, and without labels none is made up."""
    features = samples.background(100)
    found = scored(samples.written(tmp_path / "events.h5", features), artefact, tmp_path / f"scores{suffix}")
    assert list(found) == [*FEATURE_NAMES, OUTPUT_NAME]
    np.testing.assert_array_equal(found[list(FEATURE_NAMES)].to_numpy(np.float32), features)
    if suffix != ".csv":
        assert set(found.dtypes) == {np.dtype(np.float32)}


def test_the_ending_names_the_format(artefact: Path, tmp_path: Path, subtests: pytest.Subtests) -> None:
    """Every known ending, in capitals too, gives a file of its format that says which model made it."""
    events, identity = written(tmp_path / "events.h5", a_frame(20)), load_artefact(artefact).identity
    for ending in (*WRITERS, ".CSV", ".Parquet", ".H5"):
        with subtests.test(ending=ending):
            out = tmp_path / f"scores{ending}"
            np.testing.assert_array_equal(scored(events, artefact, out)[LABEL], a_frame(20)[LABEL])
            if ending in (".parquet", ".pq"):
                assert parquet.read_schema(out).metadata == {b"model": identity.encode()}
            if ending in (".h5", ".hdf5"):
                with pd.HDFStore(out, "r") as store:
                    assert store.get_storer("df").attrs.model == identity
            if ending == ".root":
                with uproot.open(out) as file:
                    assert file["model"] == identity
    assert set(scored(events, artefact, tmp_path / "named.csv.gz", "--model-column")["model"]) == {identity}


def test_mistakes_in_the_command_are_said_before_anything_is_read(
    artefact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], subtests: pytest.Subtests
) -> None:
    """An unknown ending, and a column for the model in a format that has an attribute, end with exit code 2."""
    endings = "expected a name that ends in .csv, .csv.gz, .parquet, .pq, .h5, .hdf5, .root"
    for name, flags, reason in (
        *((name, [], endings) for name in ("scores.txt", "scores.h5.bak", "scores.gz")),
        ("scores.h5", ["--model-column"], "--model-column is for CSV"),
    ):
        with subtests.test(name):
            with pytest.raises(SystemExit) as ended:
                main(command(tmp_path / "absent.h5", artefact, tmp_path / name, *flags))
            line = capsys.readouterr().err.splitlines()[-1]
            assert (ended.value.code, reason in line, str(tmp_path / name) in line) == (2, True, True)


@EVERY_FORMAT
def test_further_numbers_are_kept_and_other_losses_said(
    artefact: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str
) -> None:
    """Numeric columns come along to the last bit, in any order; text, the row index and old scores do not, as said."""
    frame = a_frame(100)
    frame = frame.assign(event=np.arange(100) + 2**60, weight=np.float32(0.1), trigger=frame[LABEL] == 1)
    shuffled = frame.assign(name="x", anomaly_score=0.0).sample(frac=1, axis=1, random_state=1)
    events, out = tmp_path / "events.h5", tmp_path / f"scores{suffix}"
    shuffled.set_index(np.arange(100) * 2).to_hdf(events, key="df", format="table")
    found = scored(events, artefact, out)
    kept = ["event", "trigger", "weight"]
    assert [*found][:15] == [*FEATURE_NAMES, LABEL]
    assert sorted([*found][15:-1]) == kept
    for name in (*FEATURE_NAMES, LABEL, *kept):
        np.testing.assert_array_equal(found[name].astype(frame[name].dtype), frame[name])
    np.testing.assert_array_equal(found[OUTPUT_NAME].to_numpy(np.float32), expected_scores(artefact, frame))
    weights, lost = sorted(caplog.messages)
    assert weights == f"{events}: column 'weight' is not used: every event counts once"
    assert lost.startswith(f"{events}: not kept in {out}: column ")
    for what in ("'name' (no numbers)", "'anomaly_score' (made anew)", "the row index (rows keep their order)"):
        assert what in lost


def test_labels_of_another_name_or_file_become_the_label(artefact: Path, tmp_path: Path) -> None:
    """Labels can be in another column or in a text file: they are the column `label` of the output, as they are."""
    frame, out, key = a_frame(4).rename(columns={LABEL: "is_signal"}), tmp_path / "scores.h5", tmp_path / "key"
    events = written(tmp_path / "events.h5", frame.assign(is_signal=[0, 2, 1, 0]))
    key.write_text("1\n0\n2\n0\n")
    for flags, columns, labels in (
        (["--label", "is_signal"], [LABEL], [0, 2, 1, 0]),
        (["--labels", str(key)], [LABEL, "is_signal"], [1, 0, 2, 0]),
    ):
        found = scored(events, artefact, out, *flags)
        assert list(found) == [*FEATURE_NAMES, *columns, OUTPUT_NAME]
        assert found[LABEL].tolist() == labels


def test_any_name_that_the_system_allows_works(artefact: Path, tmp_path: Path, subtests: pytest.Subtests) -> None:
    """Hidden files and names that are not UTF-8 are read and written in every format."""
    folder = tmp_path / "caf\udce9"  # Latin-1
    folder.mkdir()
    for name in ("_hidden", "\udce9v\udce9nements", "é 事象"):
        events = written(tmp_path / "plain.h5", a_frame(5)).replace(folder / f"{name}.h5")
        for ending in (".csv.gz", ".parquet", ".h5"):
            with subtests.test(name=ascii(name), ending=ending):
                out = folder / f"{name}-scores{ending}"
                assert main(command(events, artefact, out)) == 0
                assert len(opened(out.rename(tmp_path / f"scores{ending}"))) == 5


@EVERY_FORMAT
@pytest.mark.parametrize("row", [3, MANY - 1])
def test_unreadable_events_leave_no_file(
    artefact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str, row: int
) -> None:
    """A row that is no number, early or beyond the first chunk, is an error of one line; an older output survives."""
    frame, out = a_frame(MANY), tmp_path / f"scores{suffix}"
    frame.loc[row, "mj2"] = np.nan
    events = written(tmp_path / "events.h5", frame)
    out.write_text("old")
    message = refusal(command(events, artefact, out), capsys)
    assert f"{events}: row {row} of '/df', column 'mj2', is nan" in message
    assert out.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["events.h5", out.name]


def test_the_shipped_model_is_the_default_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without --model the shipped one scores, from any folder, and --help says so, without a path of the machine."""
    samples.written(tmp_path / "events.h5", samples.background(5))
    monkeypatch.chdir(tmp_path)
    assert main(["score", "events.h5", "--out", "scores.csv"]) == 0
    assert load_artefact(SHIPPED_MODEL).identity in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["score", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "artefact to score with (default: the shipped one)" in shown
    assert str(SHIPPED_MODEL) not in shown


def test_no_input_is_replaced(artefact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The output is neither the events nor the model nor the file of labels, whatever they are called."""
    events = written(tmp_path / "events.h5", a_frame(2))
    copy = tmp_path / "model.csv"
    copy.write_bytes(artefact.read_bytes())
    labels = tmp_path / "labels.csv"
    labels.write_text("0\n1\n")
    before = {path: path.read_bytes() for path in (events, copy, labels)}
    for out in before:
        assert "This is the input" in refusal(command(events, copy, out, "--labels", str(labels)), capsys)
    assert {path: path.read_bytes() for path in before} == before


@EVERY_FORMAT
def test_wider_numbers_than_a_format_has_become_float64(artefact: Path, tmp_path: Path, suffix: str) -> None:
    """Features and other columns in long double, which HDF5 can hold, are written in float64."""
    frame, events = a_frame(20), tmp_path / "events.h5"
    columns = {name: frame[name].to_numpy(np.longdouble) for name in FEATURE_NAMES}
    write_frame(events, [columns | {"wide": np.arange(20, dtype=np.longdouble) / 3}])
    found = scored(events, artefact, tmp_path / f"scores{suffix}")
    np.testing.assert_array_equal(found["mj1"], frame["mj1"])
    np.testing.assert_array_equal(found["wide"], np.arange(20) / 3)


def test_what_a_format_cannot_hold_is_an_error(artefact: Path, tmp_path: Path) -> None:
    """A column that Arrow refuses ends with the name of the output, and not with a traceback; nothing is written."""

    def with_another(out: Path, chunks: Iterator[Mapping[str, Any]], attributes: Mapping[str, str]) -> None:
        write_parquet(out, ({**chunk, "complex": np.ones(5, complex)} for chunk in chunks), attributes)

    out = tmp_path / "scores.parquet"
    with (
        open_events(samples.written(tmp_path / "events.h5", samples.background(5))) as events,
        pytest.raises(EventsError, match=r"scores\.parquet: cannot hold the columns of .*events\.h5"),
    ):
        score_file(open_scorer(artefact), events, out, with_another)
    assert not out.exists()


def test_what_cannot_be_scored_is_one_line(
    artefact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], subtests: pytest.Subtests
) -> None:
    """What is missing, several frames, an output that is the input and features that a file lacks are each named."""
    events, absent, out = written(tmp_path / "events.h5", a_frame(5)), tmp_path / "absent", tmp_path / "scores.csv"
    for rows, key in ((10, "one"), (20, "other")):
        a_frame(rows).to_hdf(tmp_path / "two.h5", key=key)
    other = write_artefact(tmp_path / "other.onnx", model(metadata(names=["pxj1", "met", "ht"])))
    before = events.read_bytes()
    for arguments, reason in (
        (command(absent, artefact, out), str(absent)),
        (command(events, absent, out), str(absent)),
        (command(events, artefact, absent / "scores.csv"), str(absent)),
        (command(tmp_path / "two.h5", artefact, out), "Choose one with --key"),
        (command(events, artefact, events), "This is the input"),
        (command(events, other, out), "'/df' has no column 'met', 'ht'"),
    ):
        with subtests.test(reason):
            assert reason in refusal(arguments, capsys)
            assert not out.exists()
    assert events.read_bytes() == before
    assert len(scored(tmp_path / "two.h5", artefact, out, "--key", "other")) == 20


def test_the_summary_is_right(artefact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command prints the model, NumPy's statistics of the scores, and the rows of the highest in order."""
    frame, out = a_frame(MANY), tmp_path / "scores.h5"
    assert main(command(written(tmp_path / "events.h5", frame), artefact, out)) == 0
    scores = expected_scores(artefact, frame).astype(np.float64)
    first, statistics, _, _, *top = capsys.readouterr().out.splitlines()
    assert first == f"{out}: scored by {load_artefact(artefact).identity}"
    assert statistics == (
        f"{MANY:,} events, anomaly score {scores.min():.6g} to {scores.max():.6g}, mean {scores.mean():.6g}, "
        f"standard deviation {scores.std():.6g}"
    )
    expected = sorted(range(MANY), key=lambda row: -scores[row])[:TOP_ANOMALIES]
    assert [line.split() for line in top] == [[str(row), f"{scores[row]:.6g}"] for row in expected]


def test_the_summary_counts_accepted_events(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a working point its last line says how many events are above the threshold, and the nominal efficiency."""
    frame, described = a_frame(MANY), metadata(14, FEATURE_NAMES)
    middle = float(np.median(oracle(frame[list(FEATURE_NAMES)].to_numpy(np.float32))))
    points = [msgspec.structs.replace(described.working_points[0], threshold=middle)]
    artefact = write_artefact(tmp_path / "model.onnx", model(msgspec.structs.replace(described, working_points=points)))
    events, out = written(tmp_path / "events.h5", frame), tmp_path / "scores.h5"
    assert main(command(events, artefact, out, "--working-point", "loose")) == 0
    accepted = opened(out)["accepted"].sum()
    assert 0 < accepted < MANY
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"loose: {accepted:,} of {MANY:,} events accepted above {points[0].sent_threshold:.9g}, "
        "nominal background efficiency 0.1"
    )


def test_statistics_are_those_of_all_scores_at_once() -> None:
    """However scores come in chunks, equal ones in the order of the file: the moments and the highest are the same."""
    scores = np.random.default_rng(3).integers(0, 30, 1000).astype(np.float32) + 1e4
    for step in (1, 7, 1000):
        statistics = Statistics()
        for start in range(0, 1000, step):
            statistics.add(scores[start : start + step])
        assert (statistics.events, statistics.lowest, statistics.highest) == (1000, scores.min(), scores.max())
        assert statistics.mean == pytest.approx(scores.astype(np.float64).mean(), rel=1e-12)
        assert statistics.squares == pytest.approx(scores.astype(np.float64).var() * 1000, rel=1e-9)
        expected = np.argsort(-scores, kind="stable")[:TOP_ANOMALIES]
        assert [-row for _, row in statistics.top] == expected.tolist()
    few = Statistics()
    few.add(np.array([1.0, 3.0, 3.0], np.float32))
    assert [line.split() for line in str(few).splitlines()[-3:]] == [["1", "3"], ["2", "3"], ["0", "1"]]


def test_an_output_is_an_events_file(artefact: Path, tmp_path: Path) -> None:
    """What was written as HDF5 can be scored again, and opens without pandas."""
    first, second = tmp_path / "first.h5", tmp_path / "second.h5"
    once = scored(written(tmp_path / "events.h5", a_frame(50)), artefact, first)
    pd.testing.assert_frame_equal(scored(first, artefact, second), once, check_exact=True)
    with h5py.File(first) as file:
        assert list(file) == ["df"]


@EVERY_FORMAT
def test_scores_are_explained(artefact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str) -> None:
    """`--explain` adds the contributions that the service gives, in columns of the features' names."""
    frame, out = a_frame(300), tmp_path / f"scores{suffix}"  # more than are explained at once
    events = written(tmp_path / "events.h5", frame.assign(contribution_mj1=7.0))
    found = scored(events, artefact, out, "--explain")
    assert list(found) == [*FEATURE_NAMES, LABEL, OUTPUT_NAME, *(f"contribution_{name}" for name in FEATURE_NAMES)]
    explained = Explainer(open_scorer(artefact)).explain(frame[list(FEATURE_NAMES)].to_numpy(np.float32))
    np.testing.assert_array_equal(
        found[[CONTRIBUTION + name for name in FEATURE_NAMES]].to_numpy(np.float32), explained.contributions
    )
    np.testing.assert_allclose(found[OUTPUT_NAME], explained.anomaly_scores, rtol=RTOL)
    assert capsys.readouterr().out.endswith(f"its score less {explained.reference_score:.6g}\n")
    if suffix == ".parquet":
        assert np.float32(parquet.read_schema(out).metadata[REFERENCE_SCORE.encode()]) == explained.reference_score


def test_events_are_explained_into_one_file(artefact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder of outputs has none, and a model that cannot be explained is one line."""
    events = samples.written(tmp_path / "events.h5", samples.background(10))
    with pytest.raises(SystemExit):
        main(command(events, artefact, tmp_path / "folder", "--explain"))
    assert "--explain is for one file of events" in capsys.readouterr().err
    described = metadata(14, FEATURE_NAMES)
    anomalous = msgspec.structs.replace(described.working_points[0], threshold=-1.0)
    unexplained = msgspec.structs.replace(described, working_points=[anomalous])
    other = write_artefact(tmp_path / "other.onnx", model(unexplained))
    line = refusal(command(events, other, tmp_path / "scores.csv", "--explain"), capsys)
    assert "no golden event of ordinary background" in line
    assert not (tmp_path / "scores.csv").exists()


def test_features_are_given_in_the_order_of_the_model(tmp_path: Path) -> None:
    """A model names its features: a file's columns are put in that order, whatever their own."""
    frame, names = a_frame(20), [*FEATURE_NAMES[1:], FEATURE_NAMES[0]]
    turned = write_artefact(tmp_path / "turned.onnx", model(metadata(names=names)))
    found = scored(written(tmp_path / "events.h5", frame), turned, tmp_path / "scores.parquet")
    expected = Scorer(load_artefact(turned)).score(frame[names].to_numpy(np.float32))
    np.testing.assert_array_equal(found["anomaly_score"].to_numpy(np.float32), expected)
