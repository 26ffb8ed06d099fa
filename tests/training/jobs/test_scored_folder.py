"""Many files are scored as one is, each once, and what is not scored is named."""

import json
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest

from service.model.artefact import load_artefact
from tests.artefacts import metadata, model, write_artefact
from tests.training import samples
from tests.training.jobs.here import Here
from training.__main__ import main
from training.errors import PartsError
from training.events.events import FEATURE_NAMES, ROWS_PER_CHUNK
from training.events.layout import Layout
from training.files import atomic_write
from training.jobs.file_scoring import Work, score_part
from training.jobs.named_files import Shard
from training.jobs.scored_folder import MANIFEST, score_files, write_manifest
from training.jobs.sidecars import FOLDER

HERE = Here()


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write an artefact of the published features."""
    return write_artefact(tmp_path_factory.mktemp("model") / "model.onnx", model(metadata(14, FEATURE_NAMES)))


def another(path: Path) -> Path:
    """Write the next version of that artefact."""
    return write_artefact(path, model(msgspec.structs.replace(metadata(14, FEATURE_NAMES), model_version="2")))


def work_of(artefact: Path, out: Path, **options: Any) -> Work:
    """Return what is asked for of files that go into `out`."""
    asked: dict[str, Any] = {"folder": out, "ending": ".parquet", "model": artefact, **options}
    return Work(**asked, model_sha256=digest(artefact))


def digest(artefact: Path) -> str:
    """Return the SHA-256 of an artefact."""
    return load_artefact(artefact).sha256


def some_files(folder: Path, count: int, events: int = 5) -> list[Path]:
    """Write files of different events."""
    folder.mkdir(exist_ok=True)
    return [samples.written(folder / f"{index}.h5", samples.background(events, index)) for index in range(count)]


def contents(folder: Path) -> dict[str, bytes]:
    """Return the outputs by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != MANIFEST}


def touched(folder: Path) -> dict[str, tuple[int, int]]:
    """Return inode and time of each output and each sidecar."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST]
    return {str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}


def changed(before: dict[str, tuple[int, int]], folder: Path) -> set[str]:
    """Return which outputs and sidecars were written since."""
    after = touched(folder)
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def manifest(work: Work, files: Sequence[Path]) -> dict[str, Any]:
    """Write the manifest and read it, but for what depends on the time."""
    write_manifest(work, files, {"model": "a"})
    found: dict[str, Any] = json.loads((work.folder / MANIFEST).read_text())
    for entry in found["files"]:
        for name in ("seconds", "input_modified_ns"):
            entry.pop(name, None)
    return found


def test_shards_in_any_order_are_the_whole(artefact: Path, tmp_path: Path) -> None:
    """Three shards, the last one first, write what one call does; until then the manifest names what is missing."""
    files = some_files(tmp_path / "events", 7)
    whole, shards = work_of(artefact, tmp_path / "whole"), work_of(artefact, tmp_path / "shards")
    score_files(whole, files, HERE)
    for number in (2, 1):
        score_files(shards, Shard(number, 3).of(files), HERE)
    missing = dict.fromkeys(files[::3], "not scored yet")
    assert write_manifest(shards, files, {}) == missing
    assert [entry["outcome"] for entry in manifest(shards, files)["files"]] == [
        "failed" if file in missing else "scored" for file in files
    ]
    score_files(shards, Shard(0, 3).of(files), HERE)
    assert contents(shards.folder) == contents(whole.folder)
    assert manifest(shards, files) == manifest(whole, files)


@pytest.mark.parametrize("ending", [".parquet", ".csv", ".h5"])
def test_outputs_are_those_of_single_files(artefact: Path, tmp_path: Path, ending: str) -> None:
    """Each file has the bytes that `score` gives it alone, with and without a working point, under its own stem."""
    files = some_files(tmp_path / "events", 3)
    for name, options in (("plain", {}), ("accepted", {"working_point": "loose"})):
        out, alone = tmp_path / name, tmp_path / f"{name}-alone"
        alone.mkdir()
        assert score_files(work_of(artefact, out, ending=ending, **options), files, HERE) == {}
        for file in files:
            flags = [word for option, value in options.items() for word in (f"--{option.replace('_', '-')}", value)]
            command = ["score", str(file), "--model", str(artefact), "--out", str(alone / f"{file.stem}{ending}")]
            assert main([*command, *flags]) == 0
        assert contents(out) == contents(alone)
        assert contents(out).keys() == {f"{file.stem}{ending}" for file in files}


def test_a_long_file_is_scored_in_parts_to_the_same_bytes(artefact: Path, tmp_path: Path) -> None:
    """Parts that are there are used, those that are missing are scored, and none is left."""
    events = 3 * ROWS_PER_CHUNK + 1000
    (file,) = some_files(tmp_path / "events", 1, events)
    whole, parts = (
        work_of(artefact, tmp_path / name, rows_per_part=rows)
        for name, rows in (("whole", events), ("parts", 2 * ROWS_PER_CHUNK))
    )
    assert score_files(whole, [file], HERE) == {}
    assert score_part(parts, (file, 1)) == ROWS_PER_CHUNK + 1000
    before = touched(parts.folder)
    assert [name.endswith("part-000001.npy") for name in before] == [True]
    assert score_part(parts, (file, 1)) == ROWS_PER_CHUNK + 1000
    assert changed(before, parts.folder) == set()
    engine = Here()
    assert score_files(parts, [file], engine) == {}
    assert engine.starts == 1  # which may take seconds
    assert contents(parts.folder) == contents(whole.folder)
    assert {path.name for path in parts.folder.iterdir()} == {"0.parquet", FOLDER}


def test_parts_are_of_one_file_and_one_model(artefact: Path, tmp_path: Path) -> None:
    """A file that was changed, another model, key or length of the parts has parts of other names."""
    (file,) = some_files(tmp_path / "events", 1)
    work = work_of(artefact, tmp_path / "scored")
    others = [
        replace(work, **change)
        for change in ({"model_sha256": "0" * 64}, {"layout": Layout(("df",))}, {"rows_per_part": 1})
    ]
    names = {one.part(file, one.origin(file), 0) for one in (work, *others)}
    os.utime(file, ns=(0, 0))
    assert len(names | {work.part(file, work.origin(file), 0)}) == 5


def test_a_bad_row_of_a_long_file_is_named(artefact: Path, tmp_path: Path) -> None:
    """Wherever it lies, the reason is that of the first bad row, and the next call scores the corrected file."""
    work = work_of(artefact, tmp_path / "scored", rows_per_part=ROWS_PER_CHUNK)
    features = samples.background(ROWS_PER_CHUNK + 1000)
    bad, place = features.copy(), tmp_path / "long.h5"
    bad[[ROWS_PER_CHUNK + 7, ROWS_PER_CHUNK + 9], 3] = np.nan
    file = samples.written(place, bad)
    failures = score_files(work, [file], HERE)
    assert failures[file].startswith(f"row {ROWS_PER_CHUNK + 7} of '/df', column 'mj1', is nan")
    assert contents(work.folder) == {}
    assert score_files(work, [samples.written(place, features)], HERE) == {}
    assert manifest(work, [file])["events"] == len(features)


def test_bad_files_are_named_and_tried_again(artefact: Path, tmp_path: Path) -> None:
    """A truncated file, a text, a missing one and one without a column are named; the next call touches no other."""
    files = some_files(tmp_path / "events", 12)
    good, bad = files[4:], dict(zip(("truncated", "text", "missing", "columns"), files, strict=False))
    whole = {name: file.read_bytes() for name, file in bad.items()}
    bad["truncated"].write_bytes(whole["truncated"][:-1000])
    bad["text"].write_text("no events")
    bad["missing"].unlink()
    frame = pd.DataFrame(samples.background(5), columns=list(FEATURE_NAMES))
    frame.drop(columns="tau3j2").to_hdf(bad["columns"], key="df", mode="w")
    work = work_of(artefact, tmp_path / "scored")
    failures = score_files(work, files, HERE)
    reasons = {
        "truncated": "cannot be opened: ",
        "text": "is not HDF5, expected a file as DataFrame.to_hdf writes it.",
        "missing": "there is no such file. Check the path.",
        "columns": "'/df' has no column 'tau3j2'",
    }
    assert failures.keys() == set(bad.values())
    assert all(failures[bad[name]].startswith(reason) for name, reason in reasons.items())
    assert write_manifest(work, files, {}) == failures
    found = manifest(work, files)
    assert [entry["outcome"] for entry in found["files"]] == ["failed"] * 4 + ["scored"] * 8
    assert (found["scored"], found["failed"], found["events"]) == (8, 4, 40)

    before = touched(work.folder)
    assert score_files(work, files, HERE) == failures
    failed = {f"{FOLDER}/{file.stem}.parquet.failed.json" for file in bad.values()}
    assert changed(before, work.folder) == failed
    for name, file in bad.items():
        file.write_bytes(whole[name])
    assert score_files(work, files, HERE) == {}
    new = {f"{file.stem}.parquet" for file in bad.values()}
    assert changed(before, work.folder) == failed | new | {f"{FOLDER}/{name}.json" for name in new}
    assert not any((work.folder / name).exists() for name in failed)
    assert manifest(work, files)["scored"] == 4 + len(good)


def test_what_does_not_fit_any_more_is_done_again(artefact: Path, tmp_path: Path, subtests: pytest.Subtests) -> None:
    """A changed file, another model, another option and a damaged output are scored again, and nothing else is."""
    files = some_files(tmp_path / "events", 3)
    work = work_of(artefact, tmp_path / "scored")
    score_files(work, files, HERE)
    before, first = touched(work.folder), contents(work.folder)
    other = another(tmp_path / "other.onnx")

    def again(work: Work, reason: str) -> set[str]:
        assert set(write_manifest(work, files, {}).values()) == {reason}
        assert score_files(work, files, HERE) == {}
        return {name for name in changed(before, work.folder) if not name.startswith(FOLDER)}

    with subtests.test("nothing"):
        assert score_files(work, files, HERE) == {}
        assert changed(before, work.folder) == set()
    with subtests.test("the file"):
        samples.written(files[1], samples.background(9))
        assert again(work, "scored before: the file has changed since") == {"1.parquet"}
    with subtests.test("an output of the same length, and one that was copied"):
        before = touched(work.folder)
        output = work.folder / "2.parquet"
        output.write_bytes(bytes(len(first["2.parquet"])))
        os.utime(work.folder / "0.parquet", ns=(0, 0))
        before["0.parquet"] = touched(work.folder)["0.parquet"]
        assert again(work, "its output 2.parquet is missing, or not as it was written") == {"2.parquet"}
        assert output.read_bytes() == first["2.parquet"]
    with subtests.test("the model"):
        before = touched(work.folder)
        reason = f"scored before: model_sha256 was {digest(artefact)[:12]}, and is {digest(other)[:12]} now"
        assert len(again(work_of(other, work.folder), reason)) == 3
    with subtests.test("an option"):
        before = touched(work.folder)
        accepted = work_of(other, work.folder, working_point="loose")
        assert len(again(accepted, "scored before: working_point was None, and is loose now")) == 3


def test_a_killed_writer_leaves_nothing_that_counts(artefact: Path, tmp_path: Path) -> None:
    """What a killed process left, half an output, an output without a sidecar or a torn sidecar, is done again."""
    files = some_files(tmp_path / "events", 3)
    work = work_of(artefact, tmp_path / "scored")
    score_files(work, files, HERE)
    first, sidecars = contents(work.folder), work.folder / FOLDER
    (work.folder / ".0.part.parquet").write_bytes(first["0.parquet"][:100])
    (sidecars / "0.parquet.json").unlink()
    (sidecars / "1.parquet.json").write_text("{")
    (work.folder / "2.parquet").unlink()
    assert score_files(work, files, HERE) == {}
    assert contents(work.folder) == first
    assert len(list(sidecars.iterdir())) == 3


def test_two_calls_at_once_share_a_folder(artefact: Path, tmp_path: Path) -> None:
    """Each waits for the files that the other writes, and both end with all of them."""
    files = some_files(tmp_path / "events", 12)
    work, alone = work_of(artefact, tmp_path / "scored"), work_of(artefact, tmp_path / "alone")
    score_files(alone, files, HERE)
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(lambda _: score_files(work, files, HERE), range(2))) == [{}, {}]
    assert contents(work.folder) == contents(alone.folder)
    assert manifest(work, files) == manifest(alone, files)


def test_a_file_that_changes_while_it_is_read_fails(artefact: Path, tmp_path: Path) -> None:
    """Its output may be of both versions and does not count; the next call scores what is there then."""
    file, other = tmp_path / "events.h5", samples.written(tmp_path / "other.h5", samples.background(9))
    frame = pd.DataFrame(samples.background(5), columns=list(FEATURE_NAMES))
    frame.assign(weight=1.0).to_hdf(file, key="df")
    work = work_of(artefact, tmp_path / "scored")

    class Replacing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "column 'weight'" in record.getMessage():  # so the file is open
                other.replace(file)

    handler = Replacing()
    logging.getLogger("training").addHandler(handler)
    try:
        failures = score_files(work, [file], HERE)
    finally:
        logging.getLogger("training").removeHandler(handler)
    assert failures == {file: "was changed while it was read. Repeat the command."}
    assert write_manifest(work, [file], {}) == failures
    assert score_files(work, [file], HERE) == {}
    assert manifest(work, [file])["events"] == len(pd.read_parquet(work.output(file))) == 9


def test_outputs_of_other_files_are_named(artefact: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The output of a file that was renamed stays, and a reader of the folder would count its events twice."""
    files = some_files(tmp_path / "events", 3)
    work = work_of(artefact, tmp_path / "scored")
    score_files(work, files, HERE)
    manifest(work, files)
    assert caplog.messages == []
    renamed = [file.rename(file.with_stem(f"new-{file.stem}")) for file in files[:2]]
    score_files(work, [*renamed, files[2]], HERE)
    manifest(work, [*renamed, files[2]])
    assert caplog.messages == [
        f"{work.output(files[0])} and 1 more are of none of these files, and readers of the folder read that too: "
        "remove it"
    ]


def test_a_manifest_waits_for_another_call(artefact: Path, tmp_path: Path) -> None:
    """While another call writes the manifest, this one waits, and then writes its own."""
    files = some_files(tmp_path / "events", 2)
    work = work_of(artefact, tmp_path / "scored")
    score_files(work, files, HERE)
    with ThreadPoolExecutor(1) as threads:
        with atomic_write(work.folder / MANIFEST) as path:
            waiting = threads.submit(write_manifest, work, files, {"model": "this"})
            with pytest.raises(TimeoutError):
                waiting.result(timeout=1)
            path.write_text("of the other")
        assert waiting.result() == {}
    assert json.loads((work.folder / MANIFEST).read_text())["model"] == "this"


def test_a_model_that_is_replaced_ends_the_work(artefact: Path, tmp_path: Path) -> None:
    """No file is scored by another model than the one that the call began with."""
    place = tmp_path / "model.onnx"
    work = work_of(artefact, tmp_path / "scored", model=place)
    another(place)
    with pytest.raises(PartsError, match=r"model\.onnx was replaced while it was in use"):
        score_files(work, some_files(tmp_path / "events", 2), HERE)
    assert contents(work.folder) == {}


def test_warnings_are_said_once_and_kept_for_each_file(
    artefact: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What is not kept of thousands of files is one warning, and a line of the manifest for each."""
    files = [tmp_path / f"{index}.h5" for index in range(3)]
    for file in files:
        frame = pd.DataFrame(samples.background(5), columns=list(FEATURE_NAMES))
        frame.assign(weight=1.0, name="x").to_hdf(file, key="df", format="table")
    work = work_of(artefact, tmp_path / "scored")
    score_files(work, files, HERE)
    said = [record.getMessage() for record in caplog.records if record.name == score_files.__module__]
    assert len(said) == 2
    assert all(message.startswith(f"{files[0]}: ") for message in said)
    for file, entry in zip(files, manifest(work, files)["files"], strict=True):
        weight, lost = entry["warnings"]
        assert weight == "column 'weight' is not used: every event counts once"
        assert lost.startswith(f"not kept in {work.output(file)}: column 'name' (no numbers)")


def test_labels_and_keys_apply_to_every_file(artefact: Path, tmp_path: Path) -> None:
    """A column of labels and a key are options of all files."""
    file = tmp_path / "two.h5"
    frame = pd.DataFrame(samples.background(4), columns=list(FEATURE_NAMES))
    frame.assign(truth=[0, 1, 2, 0]).to_hdf(file, key="one", mode="w")
    frame.to_hdf(file, key="other")
    work = work_of(artefact, tmp_path / "scored", layout=Layout(("one",), "truth"))
    assert score_files(work, [file], HERE) == {}
    assert pd.read_parquet(work.output(file))["label"].tolist() == [0, 1, 2, 0]
    assert "several DataFrames" in score_files(replace(work, layout=Layout()), [file], HERE)[file]


def test_a_folder_is_one_table(artefact: Path, tmp_path: Path) -> None:
    """Readers of many files take the folder as it is: what else is in it they skip."""
    files = some_files(tmp_path / "events", 4)
    work = work_of(artefact, tmp_path / "scored")
    score_files(work, files, HERE)
    write_manifest(work, files, {})
    assert len(pd.read_parquet(work.folder)) == 20
