"""The command `train` reads background, takes every option of a configuration, and explains what it refuses."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.training import samples
from tests.training.commands import refused
from tests.training.fitting.runs import FEATURES, assert_same_run
from training.__main__ import main
from training.detectors.config_file import CONFIG
from training.detectors.presets import PRESETS
from training.events.events import FEATURE_NAMES, Events, write_events
from training.events.hdf5_writer import write_frame
from training.fitting.export import read_held_out
from training.fitting.run import CHECKPOINT, load_run, split

FEW = 600


@pytest.fixture
def events(tmp_path: Path) -> Path:
    """Write background without labels."""
    return samples.written(tmp_path / "events.h5", FEATURES[:200])


@pytest.mark.parametrize("preset", ["density", pytest.param("exposed", marks=pytest.mark.slow)])
def test_the_label_is_never_an_input(tmp_path: Path, preset: str) -> None:
    """Background with labels and signal among it, with other signal, and without labels trains the same weights.

    The signals that an exposed preset learns are those of its own file, never those of the training file.
    """
    write_events(tmp_path / "cocktail.h5", samples.mixed(50, 300, seed=5))
    flags = ["--preset", preset, "--epochs", "1", "--members", "2", "--distillation-steps", "5"]
    if PRESETS[preset].exposed:
        flags += ["--exposure", str(tmp_path / "cocktail.h5")]
    labelled = samples.mixed(FEW, 100)
    assert labelled.labels is not None
    other = Events(labelled.features.copy(), labelled.labels)
    other.features[labelled.labels == 1] = samples.signal(100, seed=77)[::-1] * 1000
    files = {
        "labelled": labelled,
        "other-signal": other,
        "no-signal": labelled.background,
        "no-labels": Events(labelled.background.features),
    }
    runs = []
    for name, content in files.items():
        write_events(tmp_path / f"{name}.h5", content)
        assert main(["train", str(tmp_path / f"{name}.h5"), "--out", str(tmp_path / name), *flags]) == 0
        runs.append(load_run(tmp_path / name))
    for run in runs:
        assert_same_run(run, runs[0])
        assert run.source.sha256 == runs[0].source.sha256
        assert run.source.events == FEW


def test_labels_may_be_in_any_column_or_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same background is selected by another column or a file of labels, is printed, and is found by export."""
    labelled = samples.mixed(FEW, 100)
    assert labelled.labels is not None
    columns = dict(zip(FEATURE_NAMES, labelled.features.T, strict=True))
    write_frame(tmp_path / "column.h5", [columns | {"truth": labelled.labels.astype(np.int64)}])
    write_events(tmp_path / "file.h5", Events(labelled.features))
    key = tmp_path / "key.txt"
    key.write_text("".join(f"{label}\n" for label in labelled.labels))
    for name, flags, said in (
        ("column", ["--label", "truth"], "label 0 in column 'truth'"),
        ("file", ["--labels", str(key)], f"label 0 in {key}"),
    ):
        events, folder = tmp_path / f"{name}.h5", tmp_path / name
        assert main(["train", str(events), "--out", str(folder), "--epochs", "1", *flags]) == 0
        assert capsys.readouterr().out.splitlines()[0] == f"{events}: {FEW} background events, {said}"
        run = load_run(folder)
        held_out = samples.background(FEW)[split(FEW, run.config)[1]]
        np.testing.assert_array_equal(read_held_out(run), held_out)


def test_several_files_are_one_sample(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files that a pattern matches, with columns of other names, are trained on together, and held out again."""
    labelled = samples.mixed(FEW, 100)
    columns = dict(zip(FEATURE_NAMES, labelled.features.T, strict=True)) | {"is_signal": labelled.labels}
    columns["mass"] = columns.pop("mj1") / np.float32(1024)
    for part, rows in enumerate((slice(300), slice(300, None))):
        parquet.write_table(
            pa.table({name: values[rows] for name, values in columns.items()}), tmp_path / f"{part}.parquet"
        )
    flags = ["--columns", "mj1=1024*mass,label=is_signal", "--epochs", "1"]
    assert main(["train", str(tmp_path / "*.parquet"), "--out", str(tmp_path / "run"), *flags]) == 0
    said = f"{tmp_path}/0.parquet and 1 more: {FEW} background events, label 0 in column 'is_signal'"
    assert capsys.readouterr().out.splitlines()[0] == said
    run = load_run(tmp_path / "run")
    np.testing.assert_array_equal(read_held_out(run), samples.background(FEW)[split(FEW, run.config)[1]])


def test_every_option_can_be_given_again_to_resume(tmp_path: Path, events: Path) -> None:
    """The command that began a run resumes it with any options, more epochs and events that were moved."""
    options = ["--hidden", "8", "4", "--latent", "2", "--kl-weight", "0.5", "--name", "mine", "--seed", "3"]
    arguments = ["--out", str(tmp_path / "run"), "--preset", "variational", *options]
    assert main(["train", str(events), *arguments, "--epochs", "1"]) == 0
    moved = events.rename(tmp_path / "moved.h5")
    assert main(["train", str(moved), *arguments, "--epochs", "2", "--resume"]) == 0
    run = load_run(tmp_path / "run")
    assert len(run.curve) == run.config.epochs == 2
    assert (run.config.name, run.config.hidden, run.config.latent, run.config.kl_weight) == ("mine", (8, 4), 2, 0.5)
    assert run.source.files == (str(moved.resolve()),)


def test_a_file_of_options_trains_as_flags_do(tmp_path: Path, events: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Options of --config beat the preset's and are beaten by flags; a run's own file trains the same weights."""
    (tmp_path / "mine.toml").write_text('name = "mine"\nhidden = [8, 4]\nepochs = 3\n')
    flags = ["--preset", "variational", "--config", str(tmp_path / "mine.toml"), "--epochs", "1"]
    assert main(["train", str(events), "--out", str(tmp_path / "run"), *flags]) == 0
    run = load_run(tmp_path / "run")
    assert run.config == replace(PRESETS["variational"], name="mine", hidden=(8, 4), epochs=1)
    again = ["train", str(events), "--out", str(tmp_path / "again"), "--config", str(tmp_path / "run" / CONFIG)]
    assert main(again) == 0
    assert_same_run(load_run(tmp_path / "again"), run)
    (tmp_path / "mine.toml").write_text("epochs = 0\n")
    reason = refused(capsys, "train", str(events), "--out", str(tmp_path / "no"), *flags[:-2], status=2)
    assert reason.endswith("epochs is 0, expected 1 to 1000000")


def test_a_run_resumes_under_its_own_configuration(
    tmp_path: Path, events: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--resume takes the run's own configuration and refuses a preset that differs; without it the run stays."""
    arguments = ["train", str(events), "--out", str(tmp_path / "run")]
    assert main([*arguments, "--preset", "substructure", "--epochs", "1"]) == 0
    assert main([*arguments, "--resume", "--epochs", "2"]) == 0
    run = load_run(tmp_path / "run")
    assert (run.config.name, len(run.curve)) == ("substructure", 2)
    before = (tmp_path / "run" / CHECKPOINT).read_bytes()
    assert "holds a run with other" in refused(capsys, *arguments, "--resume", "--preset", "classic")
    already = f"{tmp_path / 'run'} already holds a run; continue it with --resume"
    assert already in refused(capsys, *arguments, status=2)
    assert (tmp_path / "run" / CHECKPOINT).read_bytes() == before


def test_what_cannot_be_learned_is_refused(
    tmp_path: Path, events: Path, capsys: pytest.CaptureFixture[str], subtests: pytest.Subtests
) -> None:
    """Signal alone trains nothing, and background is no exposure, labelled or not: one line and no folder."""
    signal, labelled, folder = tmp_path / "signal.h5", tmp_path / "labelled.h5", tmp_path / "run"
    write_events(signal, samples.mixed(5, 20).signal)
    write_events(labelled, Events(FEATURES, np.zeros(len(FEATURES), np.int8)))
    no_signal = "has no event with label 1, expected signals; `simulate --cocktail` makes some"
    for arguments, message in (
        ([signal], f"{signal} holds no background event (label 0), expected some. Give a file that does."),
        ([events, "--preset", "exposed", "--exposure", labelled], f"{labelled} {no_signal}"),
        ([events, "--preset", "exposed", "--exposure", events], f"{events} {no_signal}"),
    ):
        with subtests.test(message):
            assert refused(capsys, "train", *map(str, arguments), "--out", str(folder)) == f"error: {message}"
            assert not folder.exists()


def test_wrong_arguments_are_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], subtests: pytest.Subtests
) -> None:
    """An option that makes no sense ends with one clear line after the usage, exit code 2 and no folder."""
    for arguments, reason in (
        ("--preset other", "invalid choice: 'other'"),
        ("--architecture other", "invalid choice: 'other'"),
        ("--feature-map other", "invalid choice: 'other'"),
        ("--schedule other", "invalid choice: 'other'"),
        ("--device other", "invalid choice: 'other'"),
        ("--epochs some", "invalid int value: 'some'"),
        ("--epochs 0", "epochs is 0, expected 1 to 1000000"),
        ("--learning-rate nan", "learning_rate is nan, expected"),
        ("--name bénin", "name is 'bénin', expected 1 to 100 visible ASCII characters without spaces"),
        ("--preset exposed", "--architecture classifier learns signals too; give some with --exposure"),
        ("--architecture classifier", "--architecture classifier learns signals too; give some with --exposure"),
        ("--exposure C.h5", "--exposure is C.h5, but --architecture autoencoder learns background alone"),
        ("--preset density --exposure C.h5", "but --architecture distilled learns background alone"),
    ):
        with subtests.test(msg=arguments):
            fixed = ["train", str(tmp_path / "events.h5"), "--out", str(tmp_path / "run")]
            assert reason in refused(capsys, *fixed, *arguments.split(), status=2)
            assert list(tmp_path.iterdir()) == []
