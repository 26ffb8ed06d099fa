"""DataFrames as pandas and PyTables write them are read by column name, and refused where they cannot be."""

import os
import pickle
import random
import resource
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

from training.errors import EventsError
from training.events.readers import open_frame

ROWS = 50

FILTERS = ("zlib", "bzip2", "blosc", "blosc:lz4", "blosc:zstd", "blosc2:zstd")
LAYOUTS: dict[str, dict[str, Any]] = {
    "fixed": {"format": "fixed"},
    "table": {"format": "table"},
    **{f"{layout}-{name}": {"format": layout, "complib": name, "complevel": 5}
       for layout in ("fixed", "table") for name in FILTERS},
    "table-data-columns": {"format": "table", "data_columns": True},
    "table-data-column-label": {"format": "table", "data_columns": ["label"]},
}  # fmt: skip
DTYPES = [("f8", "i8"), ("f4", "i8"), ("f8", "i1"), ("f4", "f4"), ("f8", "f8"), ("f8", "bool"), ("i4", "u1")]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give the path of a file to write and read."""
    return tmp_path / "events.h5"


def a_frame(dtype: str = "f8", label: str = "i8", rows: int = ROWS) -> pd.DataFrame:
    """Return columns a, b, c with degenerate rows among them, and a label."""
    values = np.random.default_rng(7).normal(0, 1000, (rows, 3))
    values[0] = 0.0
    values[1, 1] = -3e-5
    frame = pd.DataFrame(values.astype(dtype), columns=["a", "b", "c"])
    return frame.assign(label=(np.arange(rows) % 3 == 0).astype(label))


def write(path: Path, frame: pd.DataFrame, layout: str = "fixed", key: str = "df", mode: str = "w") -> None:
    """Write a frame as pandas does, its warning of pickled names apart."""
    with warnings.catch_warnings(action="ignore"):
        frame.to_hdf(path, key=key, mode=mode, **LAYOUTS[layout])


def replace(path: Path, name: str, value: Any, **options: Any) -> None:
    """Replace a node of the frame /df, its attributes kept, or remove it where the value is None."""
    with h5py.File(path, "r+") as file:
        attributes = dict(file["df"][name].attrs)
        del file["df"][name]
        if value is not None:
            file["df"].create_dataset(name, data=value, **options).attrs.update(attributes)


def refusal(path: Path, key: str | None = None, columns: Sequence[str] | None = None) -> str:
    """Return the message with which a file is refused, which names the file first and a remedy last; "" when read."""
    try:
        with open_frame(path, key) as frame:
            frame.read(frame.columns if columns is None else columns)
    except EventsError as error:
        message = str(error)
        assert message.startswith(f"{path}: ")
        assert "--key" in message or message.endswith(".")
        return message
    return ""


# What is read


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_read_by_name(path: Path, subtests: pytest.Subtests, layout: str) -> None:
    """Whatever layout, compression and dtypes pandas wrote, each column holds its own values in any order asked for."""
    for dtype, label in DTYPES if layout in ("fixed", "table") else DTYPES[:1]:
        with subtests.test(dtype=dtype, label=label):
            stored = a_frame(dtype, label).assign(extra=np.ones(ROWS, dtype), another=np.arange(ROWS))
            stored = stored[["another", "c", "label", "a", "extra", "b"]]
            write(path, stored, layout)
            with open_frame(path) as frame:
                assert (frame.rows, set(frame.columns)) == (ROWS, set(stored))
                for columns in (["label", "c", "a", "b"], ["c", "a"], ["a", "b", "c"], ["c", "extra", "a", "b"]):
                    values = frame.read(columns)
                    assert values.dtype == np.float64
                    np.testing.assert_array_equal(values, stored[columns].to_numpy(np.float64))
                for start, stop in ((10, 17), (45, 1000), (30, 20)):
                    np.testing.assert_array_equal(frame.read(columns, start, stop), stored[columns][start:stop])


@pytest.mark.parametrize("layout", ["fixed", "table"])
def test_names_are_any_text_or_numbers(path: Path, subtests: pytest.Subtests, layout: str) -> None:
    """Numbered columns, as in the published particles, are "0", "1", ...; spaces and any letters are part of a name.

    `frame["label"] = key` adds a name to numbered columns, which pandas then stores as a pickle.
    """
    many = [*range(1500 if layout == "fixed" else 50), "label"]
    for names in ([0, 1, 2], ["Δη", "my mass", "0"], [0, 1, "label"], ["Δη", 70_000, -1], many):
        for dtype in (np.float64, np.int64):
            with subtests.test(names=names[-3:], label=dtype.__name__):
                values = np.arange(2.0 * len(names)).reshape(2, -1)
                write(path, pd.DataFrame(values, columns=pd.Index(names)).astype({names[-1]: dtype}), layout)
                with open_frame(path) as frame:
                    assert frame.columns == tuple(map(str, names))
                    np.testing.assert_array_equal(frame.read(frame.columns), values)
                    np.testing.assert_array_equal(frame.read([frame.columns[-1]])[:, 0], values[:, -1])


@pytest.mark.parametrize("layout", ["fixed", "table"])
def test_the_row_index_is_not_read(path: Path, subtests: pytest.Subtests, layout: str) -> None:
    """Rows come in the order of the file, whatever they are called; whether that is 0, 1, ... is told.

    A table has the levels of an index of several as columns, and so they are not lost.
    """
    levels = pd.MultiIndex.from_tuples([(0, 1), (0, 2), (1, 1)])
    index: Any
    for index in (None, [9, 4, 4], list("xyz"), pd.date_range("2020-01-01", periods=3), [0.0, 1.0, 2.0], levels):
        with subtests.test(index=str(index)):
            write(path, pd.DataFrame({"a": [1.0, 2.0, 3.0]}, index=index), layout)
            with open_frame(path) as frame:
                assert frame.has_default_index == (index is None or (index is levels and layout == "table"))
                np.testing.assert_array_equal(frame.read(["a"])[:, 0], [1.0, 2.0, 3.0])


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_blocks_across_are_read_as_blocks_down(path: Path, compression: str | None) -> None:
    """A block that is not marked as transposed holds a column in each row."""
    written = a_frame()
    write(path, written)
    for name, columns in (("block0_values", ["a", "b", "c"]), ("block1_values", ["label"])):
        replace(path, name, written[columns].to_numpy().T, compression=compression)
        with h5py.File(path, "r+") as file:
            file["df"][name].attrs["transposed"] = 0
    with open_frame(path) as frame:
        np.testing.assert_array_equal(frame.read(["label", "c", "a"], 3, 40), written[["label", "c", "a"]][3:40])


@pytest.mark.parametrize("layout", ["fixed", "fixed-blosc", "table-blosc"])
def test_more_rows_than_are_read_at_once(path: Path, layout: str) -> None:
    """A frame of many slabs and chunks is assembled without a row lost; beyond float32 a value becomes infinite."""
    written = a_frame(rows=400_001)
    written.loc[[5, 400_000], "b"] = [1e300, -1e300]
    write(path, written, layout)
    with open_frame(path) as frame:
        values = frame.read(["label", "a", "b", "c"], dtype=np.float32)
    assert values.dtype == np.float32
    assert values[[5, 400_000], 2].tolist() == [np.inf, -np.inf]
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(values, written[["label", "a", "b", "c"]].to_numpy(np.float32))


# Which DataFrame


def test_one_frame_is_found_and_of_several_one_is_chosen(path: Path) -> None:
    """A frame of any name and depth is found among other objects; of several the key chooses, as the message says."""
    write(path, a_frame(), key="deep/down/features")
    pd.Series([1.0]).to_hdf(path, key="s")
    with h5py.File(path, "r+") as file:
        file["notes"] = [1, 2, 3]
    for key in (None, "deep/down/features", "/deep/down/features"):
        with open_frame(path, key) as frame:
            assert (frame.key, frame.rows) == ("/deep/down/features", ROWS)
    for wrong, reason in (("df", "is not a DataFrame"), ("s", "is a pandas series, expected a frame")):
        expected = f"'/{wrong}' {reason}. Choose another with --key: '/deep/down/features'"
        assert expected in refusal(path, wrong)
    write(path, a_frame(rows=7), "table", key="signal", mode="a")
    assert "several DataFrames: '/deep/down/features', '/signal'. Choose one with --key" in refusal(path)
    with open_frame(path, "signal") as frame:
        assert frame.rows == 7


def test_links_to_a_frame_are_followed(tmp_path: Path) -> None:
    """A soft or external link leads to its frame, named by the key or alone in its file; a dead one is named."""
    path, data = tmp_path / "links.h5", tmp_path / "data.h5"
    write(data, a_frame(), key="hidden/df")
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
    reason = "'/df' is a link to '/hidden/df' in data.h5, which is not there. Bring it back, or choose another frame"
    assert reason in refusal(path, "df")
    with h5py.File(path, "w") as file:
        file["a"], file["b"] = h5py.SoftLink("/b"), h5py.SoftLink("/a")
    assert "no pandas DataFrame but 'a', 'b'" in refusal(path)


def test_no_frame_says_what_there_is(path: Path) -> None:
    """A file without a frame is described by what it holds instead, and one without rows or numbers by that."""
    pd.Series([1.0]).to_hdf(path, key="s", mode="w", format="table")
    assert "no pandas DataFrame but '/s' (series_table)" in refusal(path)
    for content, described in (("jets/pt", "'jets'"), (None, "nothing")):
        with h5py.File(path, "w") as file:
            if content:
                file[content] = [1.0]
        assert f"no pandas DataFrame but {described}" in refusal(path)
    write(path, a_frame()[:0])
    assert "'/df' has no rows" in refusal(path)
    write(path, pd.DataFrame({"name": ["x", "y"]}))
    assert "'/df' has no numeric columns" in refusal(path)


# What cannot be used


def test_what_is_no_hdf5_is_said_to_be_so(tmp_path: Path, path: Path) -> None:
    """A missing file, a folder and other formats, however short, are refused for just that; every ending is named."""
    assert "no such file" in refusal(path)
    assert "is not a file" in refusal(tmp_path)
    for content in (b"", b"pxj1,pyj1\n1.0,2.0\n", b"\x89PNG\r\n\x1a\n" * 100):
        path.write_bytes(content)
        assert "is not HDF5, expected a file as DataFrame.to_hdf writes it" in refusal(path)
    assert "end in .csv, .csv.gz, .parquet, .pq, .npy, .root; any other is read as HDF5." in refusal(path)


@pytest.mark.parametrize("layout", ["fixed", "fixed-blosc", "table-zlib"])
def test_a_truncated_file_is_refused_wherever_it_was_cut(tmp_path: Path, path: Path, layout: str) -> None:
    """No part of a file passes for the whole, and once its signature is there the message says to copy it again."""
    part = tmp_path / "part.h5"
    write(path, a_frame(), layout)
    content = path.read_bytes()
    for length in (0, 4, 8, 50, 96, 600, 2048, len(content) // 2, len(content) - 1):
        part.write_bytes(content[:length])
        expected = "is not HDF5" if length < 8 else "It is incomplete or damaged: copy it again."
        assert expected in refusal(part), length


@pytest.mark.process
def test_a_file_in_use_is_not_called_damaged(path: Path) -> None:
    """A file that another process is writing is refused with the system's reason."""
    writer = "import h5py, sys; file = h5py.File(sys.argv[1], 'w'); print('open', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", writer, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert "Check that you have permission to read it, and that no other process is writing it." in refusal(path)
        other.communicate(b"\n")


@pytest.mark.process
def test_a_file_system_without_locks_has_a_remedy(tmp_path: Path, path: Path) -> None:
    """Where locking a file fails, as on some NFS and Lustre mounts, the message names the setting that does without."""
    source, library = tmp_path / "flock.c", tmp_path / "flock.so"
    write(path, a_frame())
    source.write_text("#include <errno.h>\nint flock(int fd, int how) { errno = ENOLCK; return -1; }\n")
    try:
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("there is no C compiler to take the locks away with")
    program = "import sys; from training.events.readers import open_frame; open_frame(sys.argv[1]).__enter__()"
    command, environment = [sys.executable, "-c", program, str(path)], os.environ | {"LD_PRELOAD": str(library)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "No locks available" in ended.stderr.splitlines()[-1]
    assert "set HDF5_USE_FILE_LOCKING=FALSE in the environment." in ended.stderr.splitlines()[-1]


def test_rows_that_are_not_there_are_not_made_up(path: Path, subtests: pytest.Subtests) -> None:
    """A small file that claims 2 000 000 000 rows is refused at once, and not read as that many zeros."""
    for chunks in (None, (4096, 3)):
        with subtests.test(chunks=chunks):
            write(path, a_frame().drop(columns="label"))
            with h5py.File(path, "r+") as file:
                del file["df/block0_values"]
                values = file["df"].create_dataset("block0_values", (2_000_000_000, 3), "f8", chunks=chunks)
                values.attrs["transposed"] = 1
                if chunks:
                    values[:ROWS] = a_frame()[["a", "b", "c"]]
            assert path.stat().st_size < 200_000
            assert "cannot read '/df': /df/block0_values claims " in refusal(path)


def test_rows_beyond_the_memory_are_one_line(path: Path) -> None:
    """More than memory holds is refused with how much that is."""
    write(path, a_frame())
    columns = ["a"] * 500_000
    limits = resource.getrlimit(resource.RLIMIT_AS)
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + (60 << 20), limits[1]))
    try:
        message = refusal(path, columns=columns)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    assert "50 rows need 0.2 GB, more memory than there is. Use fewer rows." in message


def test_a_damaged_chunk_is_located(path: Path, subtests: pytest.Subtests) -> None:
    """Compressed data that does not decompress is refused, naming the dataset and rows."""
    cases = [("fixed-blosc", "block0"), ("fixed-zlib", "block0"), ("fixed-zlib", "block1"), ("table-blosc", "table")]
    for layout, name in cases:
        node = name if name == "table" else f"{name}_values"
        with subtests.test(layout=layout, node=node):
            write(path, a_frame(), layout)
            with h5py.File(path) as file:
                chunk = file["df"][node].id.get_chunk_info(0)
            content = bytearray(path.read_bytes())
            content[chunk.byte_offset : chunk.byte_offset + chunk.size] = b"\xff" * chunk.size
            path.write_bytes(content)
            message = refusal(path)
            assert f"cannot read rows 0 to {ROWS - 1} of '/df/{node}'" in message
            assert "damaged" in message


def test_a_missing_filter_is_named(path: Path) -> None:
    """Data in a compression that this HDF5 lacks is refused with the filter's number, and how to do without it."""
    write(path, a_frame())
    with h5py.File(path, "r+") as file:
        group = file["df"]
        del group["block0_values"]
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((ROWS, 3))
        properties.set_filter(305, h5py.h5z.FLAG_OPTIONAL)  # PyTables' LZO
        space = h5py.h5s.create_simple((ROWS, 3))
        created = h5py.h5d.create(group.id, b"block0_values", h5py.h5t.IEEE_F64LE, space, properties)
        h5py.Dataset(created).attrs["transposed"] = 1
        created.write_direct_chunk((0, 0), b"anything")
    message = refusal(path)
    for part in ("rows 0 to 49 of '/df/block0_values'", "compressed with filter 305", "complib='zlib'"):
        assert part in message


def test_random_damage_never_escapes_as_another_error(path: Path) -> None:
    """Whatever bytes of a file change, it is read or refused: nothing else is raised."""
    chance = random.Random(3)
    for layout in ("fixed-blosc", "table-zlib"):
        write(path, a_frame(), layout)
        content = path.read_bytes()
        for _ in range(60):
            damaged = bytearray(content)
            for _ in range(3):
                damaged[chance.randrange(6000)] = chance.randrange(256)
            path.write_bytes(damaged)
            refusal(path)


@pytest.mark.parametrize("layout", ["fixed", "table"])
def test_missing_columns_are_named(path: Path, layout: str) -> None:
    """All missing columns are listed, with one of the same letters and the columns that are there, abridged if many."""
    write(path, a_frame().rename(columns={"a": "M_J1"}), layout)
    message = refusal(path, columns=["b", "mj1", "tau"])
    assert "'/df' has no column 'mj1', 'tau' (did you mean 'M_J1'?). It has 'M_J1', 'b', 'c', 'label'" in message
    assert "has no column 'bc'. It has" in refusal(path, columns=["bc"])
    write(path, pd.DataFrame(np.zeros((2, 100))), layout)
    assert "It has '0', '1', '2', ... (96 more), '99'" in refusal(path, columns=["pxj1"])
    write(path, pd.DataFrame(np.zeros((2, 1000))), layout)
    hint = "(it looks like a particle-level file: `features` makes an events file of it)"
    assert hint in refusal(path, columns=["pxj1"])


def test_only_numbers_are_read(path: Path, subtests: pytest.Subtests) -> None:
    """Text, dates and categories are refused by name, and do not stand in the way of other columns."""
    for layout in ("fixed", "table", "table-data-columns"):
        for values, held in (
            (["signal", "background"], ("object", "bytes", "str")),
            (pd.to_datetime(["2020-01-01", "2020-01-02"]), ("datetime64",)),
            (pd.to_timedelta(["1s", "2s"]), ("timedelta64",)),
            (pd.Categorical([7, 5]), ("category",)),
        ):
            if layout == "fixed" and held == ("category",):
                continue  # pandas refuses to write it
            with subtests.test(layout=layout, held=held):
                write(path, pd.DataFrame({"a": [1.0, 2.0], "label": values}), layout)
                message = refusal(path, columns=["a", "label"])
                assert any(f"column 'label' of '/df' holds {word}" in message for word in held)
                assert "expected numbers" in message
                with open_frame(path) as frame:
                    assert frame.read(["a"])[:, 0].tolist() == [1.0, 2.0]


def test_contradictions_are_refused(path: Path, subtests: pytest.Subtests) -> None:
    """Blocks or fields, names and rows must agree before anything is read, and no name may come twice."""

    def of_table(names: list[str]) -> None:
        write(path, a_frame(), "table")
        with h5py.File(path, "r+") as file:
            file["df/table"].attrs["values_block_0_kind"] = np.bytes_(pickle.dumps(names, 0))

    def of_blocks(node: str, value: Any) -> None:
        write(path, a_frame())
        replace(path, node, value)

    def of_levels(layout: str) -> None:
        write(path, pd.DataFrame(np.eye(2), columns=pd.MultiIndex.from_tuples([("j1", "px"), ("j2", "px")])), layout)

    for make, arguments, reason in (
        (of_blocks, ("block0_values", np.zeros((ROWS, 2))), "the shape (50, 2) for the columns 'a', 'b', 'c'"),
        (of_blocks, ("block0_values", np.zeros(ROWS)), "block0_values has the shape (50,)"),
        (of_blocks, ("block1_values", np.zeros((ROWS - 1, 1), int)), "different numbers of rows: [49, 50]"),
        (of_blocks, ("axis0", np.array([b"a", b"b", b"c", b"d"])), "axis0 lists the columns 'a', 'b', 'c', 'd'"),
        (of_blocks, ("axis0", np.array([0.5, 1.5, 2.5, 3.5])), "column names as float64"),
        (of_blocks, ("axis0", np.array([b"\xff", b"b", b"c", b"d"])), "codec can't decode"),
        (of_blocks, ("block1_items", None), "block1_items"),
        (of_blocks, ("block0_values", None), "block0_values"),
        (of_table, (["a", "b"],), "field values_block_0 has the shape (3,) for the columns 'a', 'b'"),
        (of_table, (["a", "b", "label"],), "more than one column 'label'"),
        (of_levels, ("fixed",), ""),
        (of_levels, ("table",), ""),
    ):
        with subtests.test(arguments=str(arguments)):
            make(*arguments)
            assert f"{path}: cannot read '/df'" in refusal(path)
            assert reason in refusal(path)


class Malicious:
    """An object whose unpickling creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (self.path,))


def test_nothing_is_unpickled(tmp_path: Path, path: Path) -> None:
    """A pickle that runs code is refused where names are expected and passed over elsewhere: the code never runs."""
    trace = tmp_path / "trace"
    attack: Any = Malicious(trace)
    write(path, a_frame(), "table")
    with h5py.File(path, "r+") as file:
        for attribute in ("info", "non_index_axes", "values_cols", "index_cols", "data_columns"):
            file["df"].attrs[attribute] = np.bytes_(pickle.dumps(attack, 0))
    assert refusal(path) == ""
    for content in (attack, ["a", "b", attack]):
        with h5py.File(path, "r+") as file:
            file["df/table"].attrs["values_block_0_kind"] = np.bytes_(pickle.dumps(content, 0))
        assert "other pickles are never opened" in refusal(path)
    write(path, pd.DataFrame(np.eye(2), columns=pd.Index([0, "label"])))
    for content in (attack, [0, attack], np.array([0, attack], object), ([0], ["a"])):
        pickled = np.empty(1, object)
        pickled[0] = np.frombuffer(pickle.dumps(content), np.uint8)
        replace(path, "axis0", pickled, dtype=h5py.vlen_dtype(np.uint8))
        assert "other pickles are never opened" in refusal(path)
    assert not trace.exists()
    pickle.loads(pickle.dumps(attack))
    assert trace.exists(), "the attack would have worked"
