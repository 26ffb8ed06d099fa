"""DataFrames as pandas and PyTables write them are read by column name; what is written, pandas opens."""

import errno
import os
import pickle
import random
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import tables

from training.errors import EventsError
from training.events.hdf5 import open_frame
from training.events.hdf5_writer import write_frame

RAW = Path("../shared/lhco/events_anomalydetection_tiny.h5")
ROWS = 50

LAYOUTS: dict[str, dict[str, Any]] = {
    "fixed": {"format": "fixed"},
    "fixed-zlib": {"format": "fixed", "complib": "zlib", "complevel": 9},
    "fixed-bzip2": {"format": "fixed", "complib": "bzip2", "complevel": 9},
    "fixed-blosc": {"format": "fixed", "complib": "blosc", "complevel": 9},
    "fixed-blosc-lz4": {"format": "fixed", "complib": "blosc:lz4", "complevel": 5},
    "fixed-blosc-zstd": {"format": "fixed", "complib": "blosc:zstd", "complevel": 5},
    "fixed-blosc2-zstd": {"format": "fixed", "complib": "blosc2:zstd", "complevel": 5},
    "table": {"format": "table"},
    "table-zlib": {"format": "table", "complib": "zlib", "complevel": 9},
    "table-blosc": {"format": "table", "complib": "blosc", "complevel": 9},
    "table-blosc-zstd": {"format": "table", "complib": "blosc:zstd", "complevel": 5, "index": False},
    "table-data-columns": {"format": "table", "data_columns": True},
    "table-data-column-label": {"format": "table", "data_columns": ["label"]},
}
DTYPES = [("f8", "i8"), ("f4", "i8"), ("f8", "i1"), ("f4", "f4"), ("f8", "f8"), ("f8", "bool"), ("i4", "u1")]


def a_frame(dtype: str = "f8", label: str = "i8", rows: int = ROWS) -> pd.DataFrame:
    """Return columns a, b, c with degenerate rows among them, and a label."""
    values = np.random.default_rng(7).normal(0, 1000, (rows, 3))
    values[0] = 0.0
    values[1, 1] = -3e-5
    frame = pd.DataFrame(values.astype(dtype), columns=["a", "b", "c"])
    return frame.assign(label=(np.arange(rows) % 3 == 0).astype(label))


def rewrite(path: Path, **replacements: Any) -> None:
    """Replace nodes of the frame /df, or remove those that are None."""
    with h5py.File(path, "r+") as file:
        for name, value in replacements.items():
            attributes = dict(file["df"][name].attrs)
            del file["df"][name]
            if value is not None:
                file["df"].create_dataset(name, data=value).attrs.update(attributes)


def outcome(path: Path) -> str:
    """Say that a file was read, or how it was refused."""
    try:
        read_all(path)
    except EventsError as error:
        return str(error)
    return f"{path} was read"


def read_all(path: Path, key: str | None = None) -> None:
    """Read every column of a frame."""
    with open_frame(path, key) as frame:
        frame.read(frame.columns)


def refusal(path: Path, key: str | None = None, columns: Sequence[str] | None = None) -> str:
    """Return the message with which the file is refused, which always names the file."""
    with pytest.raises(EventsError) as caught, open_frame(path, key) as frame:
        frame.read(frame.columns if columns is None else columns)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "--key" in message or message.endswith(".")
    return message


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_read_by_name(tmp_path: Path, subtests: pytest.Subtests, layout: str) -> None:
    """Whatever layout, compression and dtypes pandas wrote, each column holds its own values in any order asked for."""
    path, order = tmp_path / "events.h5", ["label", "c", "a", "b"]
    for dtype, label in DTYPES if layout in ("fixed", "table") else DTYPES[:1]:
        with subtests.test(dtype=dtype, label=label):
            written = a_frame(dtype, label)
            stored = written.assign(extra=1.0, another=np.arange(ROWS))[["another", "c", "label", "a", "extra", "b"]]
            stored.to_hdf(path, key="df", mode="w", **LAYOUTS[layout])
            with open_frame(path) as frame:
                assert (frame.rows, set(frame.columns)) == (ROWS, set(stored))
                for columns in (order, order[1:3]):
                    values = frame.read(columns)
                    assert values.dtype == np.float64
                    np.testing.assert_array_equal(values, written[columns].to_numpy(np.float64))


@pytest.mark.parametrize("layout", ["fixed", "table"])
def test_names_are_any_text_or_numbers(tmp_path: Path, subtests: pytest.Subtests, layout: str) -> None:
    """Numbered columns, as in the published particles, are "0", "1", ...; spaces and any letters are part of a name.

    `frame["label"] = key` adds a name to numbered columns, which pandas then stores as a pickle.
    """
    path = tmp_path / "events.h5"
    for names in (
        [0, 1, 2],
        ["Δη", "my mass", "0"],
        [0, 1, "label"],
        ["Δη", 70_000, -1],
        [*range(1500 if layout == "fixed" else 50), "label"],
    ):
        for dtype in (np.float64, np.int64):
            with subtests.test(names=names[-3:], label=dtype.__name__):
                values = np.arange(2.0 * len(names)).reshape(2, -1)
                written = pd.DataFrame(values, columns=pd.Index(names)).astype({names[-1]: dtype})
                with warnings.catch_warnings(action="ignore"):  # pandas, of the pickle
                    written.to_hdf(path, key="df", mode="w", format=layout)
                with open_frame(path) as frame:
                    assert frame.columns == tuple(map(str, names))
                    np.testing.assert_array_equal(frame.read(frame.columns), values)
                    np.testing.assert_array_equal(frame.read([frame.columns[-1]])[:, 0], values[:, -1])


@pytest.mark.parametrize("layout", ["fixed", "table"])
def test_the_row_index_is_not_read(tmp_path: Path, subtests: pytest.Subtests, layout: str) -> None:
    """Rows come in the order of the file, whatever they are called; whether that is 0, 1, ... is told.

    A table has the levels of an index of several as columns, and so they are not lost.
    """
    path = tmp_path / "events.h5"
    levels = pd.MultiIndex.from_tuples([(0, 1), (0, 2), (1, 1)])
    index: Any
    for index in (None, [9, 4, 4], list("xyz"), pd.date_range("2020-01-01", periods=3), [0.0, 1.0, 2.0], levels):
        with subtests.test(index=str(index)):
            frame = pd.DataFrame({"a": [1.0, 2.0, 3.0]}, index=index)
            frame.to_hdf(path, key="df", mode="w", format=layout)
            with open_frame(path) as opened:
                assert opened.has_default_index == (index is None or (index is levels and layout == "table"))
                np.testing.assert_array_equal(opened.read(["a"])[:, 0], [1.0, 2.0, 3.0])


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_blocks_across_are_read_as_blocks_down(tmp_path: Path, compression: str | None) -> None:
    """A block that is not marked as transposed holds a column in each row."""
    path, written = tmp_path / "events.h5", a_frame()
    written.to_hdf(path, key="df", mode="w")
    with h5py.File(path, "r+") as file:
        for name in ("block0_values", "block1_values"):
            values = file["df"][name][:]
            del file["df"][name]
            file["df"].create_dataset(name, data=values.T, compression=compression).attrs["transposed"] = 0
    with open_frame(path) as frame:
        np.testing.assert_array_equal(frame.read(["label", "c", "a"], 3, 40), written[["label", "c", "a"]][3:40])


@pytest.mark.parametrize("layout", ["fixed", "fixed-blosc", "table", "table-data-columns"])
def test_rows_are_sliced(tmp_path: Path, layout: str) -> None:
    """Any range of rows gives the same rows as the whole."""
    path, written = tmp_path / "events.h5", a_frame()
    written.to_hdf(path, key="df", mode="w", **LAYOUTS[layout])
    with open_frame(path) as frame:
        whole = frame.read(["c", "label"])
        np.testing.assert_array_equal(frame.read(["c", "label"], 10, 17), whole[10:17])
        np.testing.assert_array_equal(frame.read(["c", "label"], 45, 1000), whole[45:])
        assert frame.read(["c", "label"], 30, 20).shape == (0, 2)


@pytest.mark.parametrize("layout", ["fixed", "fixed-blosc", "table-blosc"])
def test_more_rows_than_are_read_at_once(tmp_path: Path, layout: str) -> None:
    """A frame of many slabs and chunks is assembled without a row lost or moved."""
    path, written = tmp_path / "events.h5", a_frame(rows=400_001)
    written.to_hdf(path, key="df", mode="w", **LAYOUTS[layout])
    with open_frame(path) as frame:
        values = frame.read(["label", "a", "b", "c"], dtype=np.float32)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, written[["label", "a", "b", "c"]].to_numpy(np.float32))


def test_values_beyond_float32_become_infinite(tmp_path: Path) -> None:
    """A narrower dtype overflows to infinity, without a warning."""
    path = tmp_path / "events.h5"
    pd.DataFrame({"a": [1e300, -1e300, 1.0]}).to_hdf(path, key="df", mode="w")
    with open_frame(path) as frame:
        assert frame.read(["a"], dtype=np.float32)[:, 0].tolist() == [np.inf, -np.inf, 1.0]


def test_the_published_particles_are_read() -> None:
    """1000 real events of 700 particles and a label: all columns, in float64 and in float32, agree with the file."""
    if not RAW.exists():
        pytest.skip(f"{RAW} is not here: it is real data, and not part of the project")
    with h5py.File(RAW) as file:
        expected = file["df/block0_values"][:]
    with open_frame(RAW) as frame:
        assert (frame.key, frame.rows, frame.columns) == ("/df", 1000, tuple(map(str, range(2101))))
        np.testing.assert_array_equal(frame.read(frame.columns), expected)
        np.testing.assert_array_equal(frame.read(["2100", "0"]), expected[:, [2100, 0]])
        assert frame.read(["2100"]).sum() == 93


# Which DataFrame


def test_the_only_frame_needs_no_key(tmp_path: Path) -> None:
    """A frame of any name and depth is found, among other pandas objects and plain datasets."""
    path = tmp_path / "events.h5"
    a_frame().to_hdf(path, key="deep/down/features", mode="w")
    pd.Series([1.0]).to_hdf(path, key="a_series")
    with h5py.File(path, "r+") as file:
        file["notes"] = [1, 2, 3]
    with open_frame(path) as frame:
        assert frame.key == "/deep/down/features"
    for key in ("deep/down/features", "/deep/down/features"):
        with open_frame(path, key) as frame:
            assert frame.rows == ROWS


def test_several_frames_need_a_key(tmp_path: Path) -> None:
    """Without a key the message lists the frames and the flag; with one, that frame is read."""
    path = tmp_path / "events.h5"
    a_frame().to_hdf(path, key="background", mode="w")
    a_frame(rows=7).to_hdf(path, key="signal", format="table")
    message = refusal(path)
    assert "several DataFrames: '/background', '/signal'" in message
    assert "--key" in message
    with open_frame(path, "signal") as frame:
        assert frame.rows == 7


@pytest.mark.parametrize(
    ("key", "reason"), [("df", "'/df' is not a DataFrame"), ("s", "'/s' is a pandas series, expected a frame")]
)
def test_a_wrong_key_lists_the_right_ones(tmp_path: Path, key: str, reason: str) -> None:
    """A key without a frame is named beside the keys that have one."""
    path = tmp_path / "events.h5"
    a_frame().to_hdf(path, key="events", mode="w")
    pd.Series([1.0]).to_hdf(path, key="s")
    assert f"{reason}. Choose another with --key: '/events'" in refusal(path, key)


def test_links_to_a_frame_are_followed(tmp_path: Path) -> None:
    """A soft or external link leads to its frame, named by the key or alone in its file; a dead one is named."""
    path, data = tmp_path / "links.h5", tmp_path / "data.h5"
    a_frame().to_hdf(data, key="hidden/df", mode="w")
    with h5py.File(path, "w") as file:
        file["df"] = h5py.ExternalLink("data.h5", "/hidden/df")
    with h5py.File(data, "r+") as file:
        file["df"] = h5py.SoftLink("/hidden/df")
    for linked, key, found in (
        (path, None, "/df"),
        (path, "df", "/df"),
        (data, "df", "/df"),
        (data, None, "/hidden/df"),
    ):
        with open_frame(linked, key) as frame:
            assert frame.key == found
            np.testing.assert_array_equal(frame.read(["a", "label"]), a_frame()[["a", "label"]])
    data.unlink()
    message = refusal(path, "df")
    assert "cannot read '/df': it is a link to '/hidden/df' in data.h5, which is not there" in message


def test_no_frame_says_what_there_is(tmp_path: Path) -> None:
    """A file without a frame is described by what it holds instead."""
    path = tmp_path / "events.h5"
    pd.Series([1.0]).to_hdf(path, key="s", mode="w", format="table")
    assert "no pandas DataFrame but '/s' (series_table)" in refusal(path)
    with h5py.File(path, "w") as file:
        file["jets/pt"] = [1.0]
    assert "no pandas DataFrame but 'jets'" in refusal(path)
    h5py.File(path, "w").close()
    assert "no pandas DataFrame but nothing" in refusal(path)


# What cannot be used


def test_a_missing_file_or_a_folder_is_named(tmp_path: Path) -> None:
    """A path that is no file is refused for just that."""
    assert "no such file" in refusal(tmp_path / "absent.h5")
    assert "is not a file" in refusal(tmp_path)


@pytest.mark.parametrize("content", [b"", b"pxj1,pyj1\n1.0,2.0\n", b"\x89PNG\r\n\x1a\n" * 100])
def test_other_formats_are_not_hdf5(tmp_path: Path, content: bytes) -> None:
    """What is not HDF5 is said to be so, however short."""
    path = tmp_path / "events.h5"
    path.write_bytes(content)
    assert "is not HDF5, expected a file as DataFrame.to_hdf writes it" in refusal(path)


@pytest.mark.parametrize("layout", ["fixed", "fixed-blosc", "table-zlib"])
def test_a_truncated_file_is_refused_wherever_it_was_cut(tmp_path: Path, layout: str) -> None:
    """No part of a file passes for the whole, and once its signature is there the message says to copy it again."""
    path, part = tmp_path / "events.h5", tmp_path / "part.h5"
    a_frame().to_hdf(path, key="df", mode="w", **LAYOUTS[layout])
    content = path.read_bytes()
    for length in (0, 4, 8, 50, 96, 600, 2048, len(content) // 2, len(content) - 1):
        part.write_bytes(content[:length])
        expected = "is not HDF5" if length < 8 else "It is incomplete or damaged: copy it again."
        assert expected in refusal(part), length


def test_a_file_in_use_is_not_called_damaged(tmp_path: Path) -> None:
    """A file that another process is writing is refused with the system's reason."""
    path = tmp_path / "events.h5"
    writer = "import h5py, sys; file = h5py.File(sys.argv[1], 'w'); print('open', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", writer, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert "See that you may read it now." in refusal(path)
        other.communicate(b"\n")


@pytest.mark.process
def test_a_file_system_without_locks_has_a_remedy(tmp_path: Path) -> None:
    """Where locking a file fails, as on some NFS and Lustre mounts, the message names the setting that does without."""
    path, source, library = tmp_path / "events.h5", tmp_path / "flock.c", tmp_path / "flock.so"
    a_frame().to_hdf(path, key="df", mode="w")
    source.write_text("#include <errno.h>\nint flock(int fd, int how) { errno = ENOLCK; return -1; }\n")
    try:
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("there is no C compiler to take the locks away with")
    program = "import sys; from training.events.hdf5 import open_frame; open_frame(sys.argv[1]).__enter__()"
    command, environment = [sys.executable, "-c", program, str(path)], os.environ | {"LD_PRELOAD": str(library)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "No locks available" in ended.stderr.splitlines()[-1]
    assert "set HDF5_USE_FILE_LOCKING=FALSE in the environment." in ended.stderr.splitlines()[-1]


@pytest.mark.parametrize("chunks", [None, (4096, 3)])
def test_rows_that_are_not_there_are_not_made_up(tmp_path: Path, chunks: tuple[int, int] | None) -> None:
    """A small file that claims 2 000 000 000 rows is refused at once, and not read as that many zeros."""
    path, rows = tmp_path / "events.h5", 2_000_000_000
    a_frame().drop(columns="label").to_hdf(path, key="df", mode="w")
    with h5py.File(path, "r+") as file:
        del file["df/block0_values"]
        values = file["df"].create_dataset("block0_values", (rows, 3), "f8", chunks=chunks)
        values.attrs["transposed"] = 1
        if chunks:
            values[:ROWS] = a_frame()[["a", "b", "c"]]
    assert path.stat().st_size < 200_000
    assert "cannot read '/df': /df/block0_values claims " in refusal(path)


@pytest.mark.parametrize(
    ("layout", "node"),
    [
        ("fixed-blosc", "block0_values"),
        ("fixed-zlib", "block0_values"),
        ("fixed-zlib", "block1_values"),
        ("table-blosc", "table"),
    ],
)
def test_a_damaged_chunk_is_located(tmp_path: Path, layout: str, node: str) -> None:
    """Compressed data that does not decompress is refused, naming the dataset and rows."""
    path = tmp_path / "events.h5"
    a_frame().to_hdf(path, key="df", mode="w", **LAYOUTS[layout])
    with h5py.File(path) as file:
        chunk = file["df"][node].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = b"\xff" * chunk.size
    path.write_bytes(content)
    message = refusal(path)
    assert f"cannot read rows 0 to {ROWS - 1} of '/df/{node}'" in message
    assert "damaged" in message


def test_a_missing_filter_is_named(tmp_path: Path) -> None:
    """Data in a compression that this HDF5 lacks is refused with the filter's number, and how to do without it."""
    path = tmp_path / "events.h5"
    a_frame().to_hdf(path, key="df", mode="w")
    with h5py.File(path, "r+") as file:
        group = file["df"]
        del group["block0_values"]
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((ROWS, 3))
        properties.set_filter(305, h5py.h5z.FLAG_OPTIONAL)  # PyTables' LZO
        space = h5py.h5s.create_simple((ROWS, 3))
        created = h5py.h5d.create(group.id, b"block0_values", h5py.h5t.IEEE_F64LE, space, properties)
        dataset = h5py.Dataset(created)
        dataset.attrs["transposed"] = 1
        created.write_direct_chunk((0, 0), b"anything")
    message = refusal(path)
    assert "rows 0 to 49 of '/df/block0_values'" in message
    assert "compressed with filter 305" in message
    assert "complib='zlib'" in message


def test_random_damage_never_escapes_as_another_error(tmp_path: Path) -> None:
    """Whatever bytes of a file change, it is read or refused: nothing else is raised."""
    path, chance = tmp_path / "events.h5", random.Random(3)
    for layout in ("fixed-blosc", "table-zlib"):
        a_frame().to_hdf(path, key="df", mode="w", **LAYOUTS[layout])
        content = path.read_bytes()
        for _ in range(60):
            damaged = bytearray(content)
            for _ in range(3):
                damaged[chance.randrange(6000)] = chance.randrange(256)
            path.write_bytes(damaged)
            assert str(path) in outcome(path)


@pytest.mark.parametrize("layout", ["fixed", "table"])
def test_missing_columns_are_named(tmp_path: Path, layout: str) -> None:
    """All missing columns are listed, with a near match and the columns that are there."""
    path = tmp_path / "events.h5"
    a_frame().rename(columns={"a": "MJ1"}).to_hdf(path, key="df", mode="w", format=layout)
    message = refusal(path, columns=["b", "mj1", "tau"])
    assert "'/df' has no column 'mj1', 'tau' (did you mean 'MJ1'?). It has 'MJ1', 'b', 'c', 'label'" in message


def test_very_many_columns_are_abridged(tmp_path: Path) -> None:
    """A message stays readable for a frame of 2101 columns."""
    path = tmp_path / "events.h5"
    pd.DataFrame(np.zeros((2, 2101))).to_hdf(path, key="df", mode="w")
    assert "It has '0', '1', '2', ... (2097 more), '2100'" in refusal(path, columns=["pxj1"])


@pytest.mark.parametrize(
    ("values", "held"),
    [
        (["signal", "background"], "object|bytes|str"),
        (pd.to_datetime(["2020-01-01", "2020-01-02"]), "datetime64"),
        (pd.to_timedelta(["1s", "2s"]), "timedelta64"),
    ],
)
@pytest.mark.parametrize("layout", ["fixed", "table", "table-data-columns"])
def test_only_numbers_are_read(tmp_path: Path, layout: str, values: Any, held: str) -> None:
    """Text and dates are refused by name, and do not stand in the way of other columns."""
    path = tmp_path / "events.h5"
    written = pd.DataFrame({"a": [1.0, 2.0], "label": values})
    written.to_hdf(path, key="df", mode="w", **LAYOUTS[layout])
    message = refusal(path, columns=["a", "label"])
    assert "column 'label' of '/df' holds " in message
    assert any(word in message for word in held.split("|"))
    assert "expected numbers" in message
    with open_frame(path) as frame:
        assert frame.read(["a"])[:, 0].tolist() == [1.0, 2.0]


def test_categories_are_not_their_codes(tmp_path: Path) -> None:
    """Pandas stores a category as integers that mean something else: they are not read as numbers."""
    path = tmp_path / "events.h5"
    pd.DataFrame({"label": pd.Categorical([7, 5])}).to_hdf(path, key="df", mode="w", format="table")
    assert "column 'label' of '/df' holds category, expected numbers" in refusal(path)


def test_a_frame_without_rows_or_numbers_is_refused(tmp_path: Path) -> None:
    """No rows means no events, and so do no numbers."""
    path = tmp_path / "events.h5"
    a_frame()[:0].to_hdf(path, key="df", mode="w")
    assert "'/df' has no rows" in refusal(path)
    pd.DataFrame({"name": ["x", "y"]}).to_hdf(path, key="df", mode="w")
    assert "'/df' has no numeric columns" in refusal(path)


@pytest.mark.parametrize("layout", ["fixed", "table"])
def test_columns_of_several_levels_are_refused(tmp_path: Path, layout: str) -> None:
    """Names that are tuples have no place here."""
    path, names = tmp_path / "events.h5", pd.MultiIndex.from_tuples([("j1", "px"), ("j2", "px")])
    pd.DataFrame(np.eye(2), columns=names).to_hdf(path, key="df", mode="w", format=layout)
    assert "cannot read '/df'" in refusal(path)


@pytest.mark.parametrize(
    ("replacements", "reason"),
    [
        ({"block0_values": np.zeros((ROWS, 2))}, "block0_values has the shape (50, 2) for the columns 'a', 'b', 'c'"),
        ({"block0_values": np.zeros(ROWS)}, "block0_values has the shape (50,)"),
        ({"block1_values": np.zeros((ROWS - 1, 1), int)}, "different numbers of rows: [49, 50]"),
        ({"axis0": np.array([b"a", b"b", b"c", b"d"])}, "axis0 lists the columns 'a', 'b', 'c', 'd'"),
        ({"axis0": np.array([0.5, 1.5, 2.5, 3.5])}, "column names as float64"),
        ({"axis0": np.array([b"\xff", b"b", b"c", b"d"])}, "codec can't decode"),
        ({"block1_items": None}, "block1_items"),
        ({"block0_values": None}, "block0_values"),
    ],
)
def test_contradictions_in_fixed_frames_are_refused(tmp_path: Path, replacements: dict[str, Any], reason: str) -> None:
    """Blocks, names and rows must agree before anything is read."""
    path = tmp_path / "events.h5"
    a_frame().to_hdf(path, key="df", mode="w")
    rewrite(path, **replacements)
    message = refusal(path)
    assert "cannot read '/df'" in message
    assert reason in message


def test_contradictions_in_tables_are_refused(tmp_path: Path) -> None:
    """A table's fields and its lists of names must agree, and no name may come twice."""
    path = tmp_path / "events.h5"
    a_frame().to_hdf(path, key="df", mode="w", format="table")
    with h5py.File(path, "r+") as file:
        file["df/table"].attrs["values_block_0_kind"] = np.bytes_(pickle.dumps(["a", "b"], 0))
    assert "field values_block_0 has the shape (3,) for the columns 'a', 'b'" in refusal(path)
    with h5py.File(path, "r+") as file:
        file["df/table"].attrs["values_block_0_kind"] = np.bytes_(pickle.dumps(["a", "b", "label"], 0))
    assert "more than one column 'label'" in refusal(path)


class Malicious:
    """An object whose unpickling creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (self.path,))


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    """A pickle that runs code is refused where names are expected and passed over elsewhere: the code never runs."""
    path, trace = tmp_path / "events.h5", tmp_path / "trace"
    attack = np.bytes_(pickle.dumps(Malicious(trace), 0))
    a_frame().to_hdf(path, key="df", mode="w", format="table")
    with h5py.File(path, "r+") as file:
        for attribute in ("info", "non_index_axes", "values_cols", "index_cols", "data_columns"):
            file["df"].attrs[attribute] = attack
    read_all(path)
    with h5py.File(path, "r+") as file:
        file["df/table"].attrs["values_block_0_kind"] = attack
    assert "other pickles are never opened" in refusal(path)
    with h5py.File(path, "r+") as file:
        listed = pickle.dumps(["a", "b", Malicious(trace)], 0)
        file["df/table"].attrs["values_block_0_kind"] = np.bytes_(listed)
    assert "other pickles are never opened" in refusal(path)
    assert not trace.exists()
    pickle.loads(attack)
    assert trace.exists(), "the attack would have worked"


# Writing


def test_pandas_opens_what_is_written(tmp_path: Path) -> None:
    """Values, dtypes and the order of columns come back as given, whatever chunks they were written in."""
    path, written = (
        tmp_path / "events.h5",
        a_frame("f4", rows=2000).assign(score=np.linspace(0, 1, 2000), n=np.int16(3)),
    )
    written = written[["label", "a", "score", "b", "c", "n"]]
    parts = [written[:1], written[1:900], written[900:]]
    write_frame(path, ({name: part[name].to_numpy() for name in part} for part in parts))
    opened = pd.read_hdf(path)
    pd.testing.assert_frame_equal(opened, written, check_index_type=False)
    assert opened.index.tolist() == list(range(2000))
    with open_frame(path) as frame:
        assert frame.columns == tuple(written.columns)
        np.testing.assert_array_equal(frame.read(frame.columns), written.to_numpy(np.float64))


def test_pytables_knows_every_node_that_is_written(tmp_path: Path) -> None:
    """PyTables sees arrays of its own kinds, compressed as any HDF5 can read, and no unknown node."""
    path = tmp_path / "events.h5"
    write_frame(path, [{"a": np.ones(5), "label": np.ones(5, int)}])
    with tables.open_file(str(path)) as file:
        kinds = {node._v_name: type(node).__name__ for node in file.walk_nodes("/df", "Leaf")}
        compression = file.root.df.block0_values.filters.complib
    assert set(kinds.values()) == {"Array", "EArray"}
    assert compression == "zlib"


def test_rows_of_many_chunks_round_trip(tmp_path: Path) -> None:
    """200 000 rows written a few at a time are read back bit for bit, by pandas too."""
    path, written = tmp_path / "events.h5", a_frame("f4", "i1", rows=200_000)
    steps = range(0, len(written), 30_011)
    write_frame(path, ({name: written[name].to_numpy()[i : i + 30_011] for name in written} for i in steps))
    with open_frame(path) as frame:
        np.testing.assert_array_equal(frame.read(frame.columns, dtype=np.float32), written.to_numpy(np.float32))
    pd.testing.assert_frame_equal(pd.read_hdf(path), written, check_index_type=False)


@pytest.mark.process
def test_a_full_disk_is_one_error_whenever_it_comes(tmp_path: Path) -> None:
    """Wherever the room ends, the error of the system is raised, the old file stays, and the process ends well."""
    path = tmp_path / "events.h5"
    path.write_text("old")
    program = """
import resource, sys, numpy as np
from training.events.hdf5_writer import write_frame
rows = np.random.default_rng(0).normal(size=(4, 50_000)).astype("f4")
for limit in (0, 100, 2048, 5000, 100_000, 600_000, 700_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        write_frame(sys.argv[1], [{"a": values} for values in rows])
    except OSError as error:
        print(error.errno, error.filename)
"""
    ended = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines() == [f"{errno.EFBIG} {path}"] * 7
    assert ended.stderr == ""
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_no_rows_write_no_file(tmp_path: Path) -> None:
    """A file without rows could not be read again, and so is not written."""
    path = tmp_path / "events.h5"
    for chunks in ([], [{"a": np.empty(0)}]):
        with pytest.raises(EventsError, match=r"events\.h5: there are no rows to write"):
            write_frame(path, chunks)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        ({"a": np.ones(2)}, "after row 3, expected"),
        ({"b": np.ones(2), "a": np.ones(2)}, "after row 3, expected"),
        ({"a": np.ones(2, "f4"), "b": np.ones(2)}, "after row 3, expected"),
        ({"a": np.ones(2), "b": np.ones(1)}, r"different lengths \[1, 2\] after row 3"),
    ],
)
def test_chunks_that_do_not_fit_are_refused(tmp_path: Path, second: dict[str, Any], reason: str) -> None:
    """Columns, their order, dtypes and lengths must agree; an old file is then left alone."""
    path = tmp_path / "events.h5"
    path.write_text("old")
    with pytest.raises(ValueError, match=reason):
        write_frame(path, [{"a": np.ones(3), "b": np.ones(3)}, second])
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("values", [np.array(["x"]), np.array([True]), np.array([1j])])
def test_only_numbers_are_written(tmp_path: Path, values: Any) -> None:
    """Only floats and integers are written, as only numbers are read."""
    with pytest.raises(ValueError, match=r"column 'a' is .*, expected floats or integers"):
        write_frame(tmp_path / "events.h5", [{"a": values}])
