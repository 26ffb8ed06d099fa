"""Events are read alike from every format, by names that a mapping gives them, a range of rows at a time."""

import gzip
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import uproot
from pyarrow import parquet

from tests.training import samples
from training.errors import EventsError
from training.events.columns import parse_columns
from training.events.events import FEATURE_NAMES, LABEL, ROWS_PER_CHUNK, open_events, read_events
from training.events.layout import Layout, read_columns
from training.events.readers import open_frame

ROWS = 600


def a_frame(rows: int = ROWS) -> pd.DataFrame:
    """Return events with a number that float64 does not hold, a label and a text."""
    numbers = 2**60 + np.arange(rows)
    values = samples.background(rows).astype(np.float64)
    frame = pd.DataFrame(values, columns=list(FEATURE_NAMES))
    return frame.assign(event=numbers, **{LABEL: np.arange(rows) % 3, "site": "CERN"})


def write_tree(path: Path, name: str, columns: dict[str, Any], mode: Callable[[Path], Any] = uproot.recreate) -> None:
    """Write columns as a tree; a column of lists brings a branch with their lengths."""
    columns = {key: ak.Array(values) if isinstance(values, list) else values for key, values in columns.items()}
    with mode(path) as file:
        tree = file.mktree(name, {key: _type(values) for key, values in columns.items()})
        counts = {
            f"n{key}": ak.to_numpy(ak.num(values)) for key, values in columns.items() if isinstance(values, ak.Array)
        }
        tree.extend({**columns, **counts})


def _type(values: Any) -> Any:
    return values.type.content if isinstance(values, ak.Array) else values.dtype


def write_root(path: Path, frame: pd.DataFrame) -> None:
    """Write the numbers of a frame as a tree."""
    write_tree(path, "Events", {name: frame[name].to_numpy() for name in frame.select_dtypes("number")})


def write_csv_gz(path: Path, frame: pd.DataFrame) -> None:
    """Write a frame as compressed text, with semicolons."""
    with gzip.open(path, "wt") as file:
        frame.to_csv(file, index=False, sep=";")


def _write_datasets(path: Path, datasets: dict[Any, Any]) -> None:
    """Write datasets as h5py does, without pandas."""
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[name] = values


WRITERS: dict[str, Callable[[Path, pd.DataFrame], None]] = {
    "a.csv": lambda path, frame: frame.to_csv(path, index=False),
    "b.csv.gz": write_csv_gz,
    "c.parquet": lambda path, frame: frame.to_parquet(path, row_group_size=100),
    "d.root": write_root,
    "e.npy": lambda path, frame: np.save(path, frame.select_dtypes("number").to_records(index=False)),
    "f.hdf": lambda path, frame: frame.to_hdf(path, key="df"),
    "g.h5": lambda path, frame: _write_datasets(path, dict(frame.select_dtypes("number").items())),
    "h.h5": lambda path, frame: _write_datasets(
        path, {"events/all": frame.select_dtypes("number").to_records(index=False)}
    ),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_events(tmp_path: Path, name: str) -> None:
    """Any range of rows, in any order, and every column have the values that were written, to the last bit."""
    frame, path = a_frame(), tmp_path / name
    WRITERS[name](path, frame)
    events = read_events(path)
    assert events.labels is not None
    np.testing.assert_array_equal(events.features, frame[list(FEATURE_NAMES)].to_numpy(np.float32))
    np.testing.assert_array_equal(events.labels, np.minimum(frame[LABEL], 1))
    with open_events(path) as file:
        assert len(file) == ROWS
        for start, stop in ((150, 350), (340, 345), (500, 600), (0, 10), (7, 7)):
            np.testing.assert_array_equal(file.read_features(start, stop), frame[list(FEATURE_NAMES)][start:stop])
            numbers = file.frame.read(["event"], start, stop, np.int64)
            np.testing.assert_array_equal(numbers[:, 0], frame["event"][start:stop])
    with pytest.raises(OSError, match="the output"), open_events(path):
        raise OSError("the output")  # is none of this file


def test_features_are_renamed_converted_and_computed(tmp_path: Path) -> None:
    """A column of another name, another unit, and a formula give the features; what no feature renames is kept."""
    frame = a_frame(50)
    pt, phi = np.hypot(frame["pxj1"], frame["pyj1"]), np.arctan2(frame["pyj1"], frame["pxj1"])
    other = frame.drop(columns=["pxj1", "pyj1"]).rename(columns={"mj2": "jet-2 mass", LABEL: "is_signal"})
    other = other.assign(pt=pt, phi=phi, mj1=frame["mj1"] / 1000)
    path = tmp_path / "other.parquet"
    other.to_parquet(path)
    columns = parse_columns("pxj1=pt*cos(phi), pyj1 = pt*sin(phi),mj1=1e3*mj1,mj2=jet-2 mass,label=is_signal")
    with open_events(path, Layout(columns=columns)) as file:
        np.testing.assert_allclose(file.read_features(), frame[list(FEATURE_NAMES)], rtol=1e-12, atol=1e-9)
        np.testing.assert_array_equal(file.read_labels(), frame[LABEL])
        assert {"pt", "phi", "event", "site"} < set(file.frame.columns)
        assert not {"jet-2 mass", "is_signal"} & set(file.frame.columns)


JETS = """
[columns]
pxj1 = "Jet.PT[0] * cos(Jet.Phi[0])"
pyj1 = "Jet.PT[0] * sin(Jet.Phi[0])"
pzj1 = "Jet.PT[0] * sinh(Jet.Eta[0])"
mj1 = "Jet.Mass[0]"
tau1j1 = "Jet.Tau[0][0]"
tau2j1 = "Jet.Tau[0][1]"
tau3j1 = "Jet.Tau[0][2]"
pxj2 = "Jet.PT[1] * cos(Jet.Phi[1])"
pyj2 = "Jet.PT[1] * sin(Jet.Phi[1])"
pzj2 = "Jet.PT[1] * sinh(Jet.Eta[1])"
mj2 = "Jet.Mass[1]"
tau1j2 = "Jet.Tau[1][0]"
tau2j2 = "Jet.Tau[1][1]"
tau3j2 = "Jet.Tau[1][2]"
"""


@pytest.mark.parametrize("name", ["jets.root", "jets.parquet"])
def test_a_list_of_jets_gives_the_features_of_two(tmp_path: Path, name: str) -> None:
    """Elements of lists, and of lists of lists, are read as Delphes' trees have them; a jet that is not there is 0."""
    features = samples.background(40).astype(np.float64)
    features[[3, 7], 7:] = 0.0  # no second jet
    jets = features.reshape(-1, 2, 7)
    pt = np.hypot(jets[..., 0], jets[..., 1])
    tau = np.pad(jets[..., 4:], ((0, 0), (0, 0), (0, 2)))
    with np.errstate(invalid="ignore"):
        eta = np.arcsinh(jets[..., 2] / pt)
    found = {"PT": pt, "Phi": np.arctan2(jets[..., 1], jets[..., 0]), "Eta": eta, "Mass": jets[..., 3], "Tau": tau}
    mapping = JETS
    lists = {
        f"Jet.{key}": [list(row[: (p > 0).sum()]) for row, p in zip(values, pt, strict=True)]
        for key, values in found.items()
    }
    if name.endswith(".root"):
        arrays = {key: ak.Array(values) for key, values in lists.items()}
        taus = arrays.pop("Jet.Tau")  # uproot writes no lists of lists
        write_tree(tmp_path / name, "Delphes", {**arrays, **{f"Jet.Tau{n}": taus[:, :, n] for n in range(3)}})
        mapping = re.sub(r"Tau(\[\d\])\[(\d)\]", r"Tau\2\1", JETS)
    else:
        lists["Jet.Tau"] = [[list(jet) for jet in event] for event in lists["Jet.Tau"]]
        parquet.write_table(pa.table(lists), tmp_path / name)
    (tmp_path / "jets.toml").write_text(mapping)
    layout = Layout(columns=read_columns(tmp_path / "jets.toml"))
    with open_events(tmp_path / name, layout) as file:
        np.testing.assert_allclose(file.read_features(10), features[10:], rtol=1e-12, atol=1e-9)
        np.testing.assert_allclose(file.read_features(), features, rtol=1e-12, atol=1e-9)
        with pytest.raises(EventsError, match=r"column 'Jet.PT' .* holds float64\[\], .*Name 'Jet.PT\[0\]' with"):
            file.frame.read(["Jet.PT"])


@pytest.mark.parametrize("name", ["bare.csv", "bare.npy", "bare.h5"])
def test_columns_without_names_are_numbered(tmp_path: Path, name: str) -> None:
    """Numbers alone, such as the published HIGGS file has, are columns 0, 1, ..., which a mapping names."""
    features = samples.background(30).astype(np.float64)
    rows = np.column_stack([np.arange(30) % 2, features])
    write = {
        "bare.csv": lambda path: np.savetxt(path, rows, delimiter=","),
        "bare.npy": lambda path: np.save(path, rows),
        "bare.h5": lambda path: _write_datasets(path, {"events": rows}),
    }
    write[name](tmp_path / name)
    columns = {LABEL: "0", **{feature: str(place + 1) for place, feature in enumerate(FEATURE_NAMES)}}
    events = read_events(tmp_path / name, Layout(columns=columns))
    assert events.labels is not None
    np.testing.assert_array_equal(events.features, features.astype(np.float32))
    np.testing.assert_array_equal(events.labels, np.arange(30) % 2)
    with pytest.raises(EventsError, match=r"the 15 columns of .* are numbered, .* say with --columns"):
        read_events(tmp_path / name)


def test_the_key_chooses_a_tree(tmp_path: Path) -> None:
    """Of several trees one has to be chosen, a TTree or an RNTuple; histograms and others are none."""
    path, column = tmp_path / "two.root", {"x": np.arange(3.0)}
    write_tree(path, "one", column)
    write_tree(path, "two", {"x": np.arange(4.0)}, uproot.update)
    with uproot.update(path) as file:
        file["ntuple"] = {"x": np.arange(5.0)}
        file["note"] = "text"
    for key, rows in (("one", 3), ("two", 4), ("ntuple", 5)):
        with open_frame(path, key) as frame:
            np.testing.assert_array_equal(frame.read(["x"])[:, 0], np.arange(rows))
    for absent, reason in (
        (None, "holds several trees. Choose one with --key: 'one', 'two', 'ntuple'"),
        ("no", "has no tree 'no'"),
    ):
        with pytest.raises(EventsError, match=reason), open_frame(path, absent):
            pass


def test_a_chunk_of_a_long_file_is_in_memory(tmp_path: Path) -> None:
    """Some batches of a Parquet file are held, whatever its length; earlier rows are read anew."""
    columns = {name: np.random.default_rng(0).random(10 * ROWS_PER_CHUNK) for name in "abcd"}
    size = sum(values.nbytes for values in columns.values())
    parquet.write_table(pa.table(columns), tmp_path / "long.parquet", use_dictionary=False)
    with open_frame(tmp_path / "long.parquet") as frame:
        before = pa.total_allocated_bytes()
        for start in range(0, frame.rows, ROWS_PER_CHUNK):
            found = frame.read(["d", "a"], start, start + ROWS_PER_CHUNK)
            np.testing.assert_array_equal(found[-1], [columns[name][start + ROWS_PER_CHUNK - 1] for name in "da"])
            assert pa.total_allocated_bytes() - before < 0.3 * size
        np.testing.assert_array_equal(frame.read(["a"], 5, 10)[:, 0], columns["a"][5:10])


@pytest.mark.parametrize("name", ["groups.h5", "groups.root"])
def test_several_tables_are_read_in_turn(tmp_path: Path, name: str) -> None:
    """Keys that are repeated give one sample, each with a label if it says one; a missing feature names its table."""
    frame, path = a_frame(60).drop(columns=[LABEL, "site"]), tmp_path / name
    for mode, key, rows in ((uproot.recreate, "qcd", slice(40)), (uproot.update, "signal", slice(40, None))):
        if name.endswith(".root"):
            write_tree(path, key, {column: frame[column][rows].to_numpy() for column in frame}, mode)
        else:
            frame[rows].to_hdf(path, key=key)
    events = read_events(path, Layout(("qcd=0", "signal=1")))
    assert events.labels is not None
    np.testing.assert_array_equal(events.features, frame[list(FEATURE_NAMES)].to_numpy(np.float32))
    np.testing.assert_array_equal(events.labels, np.arange(60) >= 40)
    with open_events(path, Layout(("signal", "qcd"))) as file:
        assert not file.has_labels
        turned = np.concatenate([frame["event"][40:], frame["event"][:40]])
        np.testing.assert_array_equal(file.frame.read(["event"], 10, 50, np.int64)[:, 0], turned[10:50])
    with pytest.raises(EventsError, match=r"--key is qcd=x: the label is 'x', expected 0"):
        read_events(path, Layout(("qcd=x",)))


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "damaged.parquet": (lambda path: path.write_bytes(b"PAR1 no more"), "cannot read it as Parquet: .* write it anew"),
    "damaged.root": (lambda path: path.write_bytes(b"root no more"), "cannot read it as ROOT: .* write it anew"),
    "damaged.npy": (lambda path: path.write_bytes(b"\x93NUMPY"), "cannot be read as .npy"),
    "pickled.npy": (lambda path: np.save(path, np.array([{}])), "cannot be read as .npy: .*Python objects in dtype"),
    "empty.csv": (lambda path: path.write_text(""), "cannot read it as CSV"),
    "rowless.csv": (lambda path: path.write_text("pxj1,pyj1\n"), "cannot read it as CSV|has no rows"),
    "ragged.csv": (lambda path: path.write_text("a,b\n1,2\n3\n"), "cannot read it as CSV: .*Expected 2 columns, got 1"),
    "twice.csv": (lambda path: path.write_text("a,a\n1,2\n"), "it has more than one column 'a'"),
    "rowless.parquet": (lambda path: parquet.write_table(pa.table({"a": pa.array([], "f8")}), path), "has no rows"),
    "treeless.root": (lambda path: uproot.recreate(path).close(), "holds no tree"),
    "columns.csv": (lambda path: path.write_text("PXJ1,b\n1,2\n"), "has no column 'pxj1', .*did you mean 'PXJ1'"),
    "text.csv": (
        lambda path: a_frame(3).assign(pxj1="x").to_csv(path, index=False),
        "text.csv: line 2, column 'pxj1', is 'x', expected a number. Correct it or drop the line",
    ),
    "missing.csv": (
        lambda path: a_frame(3).assign(mj1=[1, None, 2]).to_csv(path, index=False),
        "row 1 of the table, column 'mj1', is nan, expected a number that is finite",
    ),
    "unlabelled.csv": (
        lambda path: a_frame(3).assign(label=[1, None, 2]).to_csv(path, index=False),
        "row 1 of the table, column 'label', is nan, expected 0",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_none_is_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    """Each message names the file, and the place where there is one."""
    write, reason = REFUSED[name]
    write(tmp_path / name)
    with pytest.raises(EventsError, match=reason) as caught:
        read_events(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


TEXT = "x" * 4000  # some thousand lines are more than the block that tells what a column holds


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a,b\n1.5,2\n\n+2, 5\nNA,infinity\noops,2\n", "line 6, column 'a', is 'oops', expected a number"),
        ("1.5;2\n1,5;3\n", "line 2, column '0', is '1,5', expected a number"),
        ('a,b\n"one, two",2\n', "line 2, column 'a', is 'one, two', expected a number"),
        (f"a,b,c\n{f'1,2.5,{TEXT}{chr(10)}' * 5000}1,oops,3\n", "line 5002, column 'b', is 'oops', expected a number"),
        (
            f"a,b,c\n{f'1,2.5,{TEXT}{chr(10)}' * 5000}1.5,2,3\n",
            "line 5002, column 'a', is '1.5', expected a whole number",
        ),
    ],
    ids=["word", "comma", "quoted", "late word", "late fraction"],
)
@pytest.mark.parametrize("name", ["events.csv", "events.csv.gz"])
def test_a_word_among_numbers_is_named_with_its_line(tmp_path: Path, name: str, text: str, reason: str) -> None:
    """Wherever in a file of text it is; lines count from 1 as editors count them, with names and empty lines."""
    content = text.encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with open_frame(tmp_path / name) as frame, pytest.raises(EventsError, match=f"{name}: {reason}"):
        frame.read(frame.columns[:2])


def test_a_column_without_numbers_may_change(tmp_path: Path) -> None:
    """A note after thousands of lines without one is no fault of the file: the column is not read."""
    (tmp_path / "events.csv").write_text(f"note,t,a\n{f',{TEXT},2{chr(10)}' * 5000}late,x,3\n")
    with open_frame(tmp_path / "events.csv") as frame:
        assert frame.read(["a"])[-2:, 0].tolist() == [2, 3]


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ("mj3=pxj1", "--columns names 'mj3', expected features, pxj1"),
        ("mj1=nothing", "has no column 'nothing'"),
        ("mj1=event[0]", r"column 'event\[0\]' of the table holds int64, expected numbers. Name 'event'"),
        ("mj1=site", "column 'site' of the table holds .*string, expected numbers"),
        ("mj1=mj2 +", "column 'mj1': 'mj2 \\+' is neither a column nor a formula"),
        ("mj1=open('x')", "column 'mj1': \"open\\('x'\\)\" is no part of a formula, expected columns, numbers"),
        ("mj1=mj2.__class__()", "is no part of a formula"),
        ("mj1=sqrt(mj1,mj2)", "'sqrt\\(mj1, mj2\\)' has 2 arguments"),
        ("mj1=mj2/(mj2-mj2)", "row 0 of the table, column 'mj1', is inf, expected a number that is finite"),
    ],
)
def test_a_mapping_that_cannot_be_is_refused(tmp_path: Path, columns: str, reason: str) -> None:
    """Unknown features and columns, and anything that is no arithmetic, are named; nothing of it is executed."""
    a_frame(3).to_parquet(tmp_path / "events.parquet")
    with pytest.raises(EventsError, match=reason):
        read_events(tmp_path / "events.parquet", Layout(columns=parse_columns(columns)))
