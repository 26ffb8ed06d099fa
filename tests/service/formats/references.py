"""Reference readers of bodies, by json, msgpack, NumPy and the service's rules one by one, and checks against them."""

import io
import json
import struct
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any, Final

import msgspec
import numpy as np

from benchmarks.load.formats import JSON, MSGPACK, NPY, RAW
from service.errors import BodyTooLargeError, InvalidRequestError
from service.formats.format import BatchReader, Rows
from service.formats.json import JsonReader, read_rows_slowly
from service.formats.table import FORMATS

Outcome = Rows | str
"""What a body gives: rows, or the message of its refusal."""

N: Final = 3
MANY: Final = sys.maxsize
"""Events, more than any body here has."""
NAMES: Final = ["mj1", "pzj1", "tau2j1"]
FLOAT32_END: Final = 2.0**128 - 2.0**103
"""What float32 rounds to infinity starts here."""

COMPILED: Final = JsonReader.read_rows is not read_rows_slowly


class SlowJsonReader(JsonReader):
    """Reads JSON as where there is no compiler."""

    read_rows = staticmethod(read_rows_slowly)


Open = Callable[[Sequence[str], int], BatchReader]
"""Opens a reader, given the features' names and the most events."""


def readers(media_type: str) -> dict[str, Open]:
    """Return every reader of a format by its name: JSON has one that needs no compiler."""
    if media_type == JSON.media_type:
        return {"slow": SlowJsonReader, **({"compiled": JsonReader} if COMPILED else {})}
    return {media_type: FORMATS.of_request(media_type).open_batch}


def cut(body: bytes, places: Iterable[int]) -> list[bytes]:
    """Cut a body at these places; the last piece may be empty, as it is in HTTP."""
    return [body[start:end] for start, end in pairwise([0, *sorted(places), len(body)])]


def pieces_of(body: bytes, places: Iterable[float]) -> list[bytes]:
    """Cut a body at these fractions of its length."""
    return cut(body, (round(place * len(body)) for place in places))


def random_pieces(body: bytes, n_cuts: int) -> list[bytes]:
    """Cut a body at random places, the same in every run."""
    return cut(body, np.random.default_rng(n_cuts).integers(len(body) + 1, size=n_cuts).tolist())


def blocks(opened: Open, pieces: Sequence[bytes], names: Sequence[str] = NAMES, most: int = MANY) -> list[Rows]:
    """Read a batch in these pieces to its blocks of rows."""
    reader, last = opened(names, most), len(pieces) - 1
    return [block.copy() for place, piece in enumerate(pieces) for block in reader.feed(piece, last=place == last)]


def outcome(opened: Open, pieces: Sequence[bytes], names: Sequence[str] = NAMES, most: int = MANY) -> Outcome:
    """Read a batch in these pieces to its rows, or to the message of its refusal."""
    try:
        return np.concatenate(blocks(opened, pieces, names, most))
    except (InvalidRequestError, BodyTooLargeError) as error:
        return str(error)


def whole_outcome(body: bytes, media_type: str, names: Sequence[str] = NAMES, most: int = MANY) -> Outcome:
    """Read a batch that is there whole to its rows, or to the message of its refusal, at once and block by block."""
    fmt = FORMATS.of_request(media_type)
    in_blocks: Outcome
    try:
        in_blocks = np.concatenate([block.copy() for block in fmt.read_blocks(body, names, most)])
    except (InvalidRequestError, BodyTooLargeError) as error:
        in_blocks = str(error)
    try:
        at_once = fmt.read_batch(body, names, most)
    except (InvalidRequestError, BodyTooLargeError) as error:
        return str(error)
    assert_same(in_blocks, at_once)
    return at_once


def event_outcome(body: bytes, media_type: str, names: Sequence[str] = NAMES) -> Outcome:
    """Read one event to a row, or to the message of its refusal, alone and into the row of an array."""
    fmt, rows, into = FORMATS.of_request(media_type), np.full((3, len(names)), 7, np.float32), ""
    try:
        fmt.read_event_into(names, body, rows, 1)
    except (InvalidRequestError, BodyTooLargeError) as error:
        into = str(error)
    assert (rows[[0, 2]] == 7).all()
    given: Outcome
    try:
        given = fmt.read_event(body, names)
    except (InvalidRequestError, BodyTooLargeError) as error:
        given = str(error)
    assert_same(into or rows[1:2], given)
    return given


def refusal(opened: Open, body: bytes, names: Sequence[str] = NAMES, most: int = MANY) -> str:
    """Return the message of a refusal, which is the same however the body arrives."""
    message = outcome(opened, [body], names, most)
    assert isinstance(message, str)
    for n_cuts in (3, 60) if len(body) < 10**5 else (3,):
        assert outcome(opened, [*random_pieces(body, n_cuts), b""], names, most) == message
    return message


def assert_same(one: Outcome, other: Outcome) -> None:
    """Check that two outcomes are the same refusal or the same numbers."""
    assert type(one) is type(other), (one, other)
    if isinstance(one, str):
        assert one == other
    else:
        np.testing.assert_array_equal(one, other)


class WrongError(Exception):
    """The reference does not take the body."""


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object whose keys differ."""
    if len({name for name, _ in pairs}) != len(pairs):
        raise WrongError
    return dict(pairs)


def no_constant(_: str) -> float:
    """Refuse NaN and Infinity, which JSON has not."""
    raise WrongError


def checked(document: Any, name: str) -> Rows:
    """Check a document by the service's rules, number by number."""
    if not isinstance(document, dict) or list(document) != [name]:
        raise WrongError
    rows = [document[name]] if name == "features" else document[name]
    if not isinstance(rows, list) or not rows:
        raise WrongError
    for row in rows:
        if not isinstance(row, list) or len(row) != N:
            raise WrongError
        if any(type(value) not in (int, float) or not abs(value) < FLOAT32_END for value in row):
            raise WrongError
    return np.array(rows, np.float64).astype(np.float32)


def json_reference(body: bytes, name: str) -> Rows:
    """Read JSON by the standard library."""
    try:
        text = body.decode()
        document = json.loads(text, parse_int=float, object_pairs_hook=once, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        raise WrongError from error
    return checked(document, name)


def msgpack_reference(body: bytes, name: str) -> Rows:
    """Read MessagePack by msgspec, into plain objects."""
    n_keys = {0xDE: body[1:3], 0xDF: body[1:5]}.get(body[0] if body else 0)
    if (int.from_bytes(n_keys) if n_keys else body[0] & 0x0F if body else 0) != 1:
        raise WrongError
    try:
        document = msgspec.msgpack.decode(body)
    except (ValueError, RecursionError) as error:
        raise WrongError from error
    if isinstance(document, dict) and list(document) == [name] and isinstance(document[name], bytes):
        return raw_reference(document[name], name)
    return checked(document, name)


def raw_reference(body: bytes, name: str) -> Rows:
    """Read float32 rows by struct."""
    if not body or len(body) % (4 * N) or (name == "features" and len(body) != 4 * N):
        raise WrongError
    rows = np.array(struct.unpack(f"<{len(body) // 4}f", body), np.float64).reshape(-1, N)
    if not np.isfinite(rows).all():
        raise WrongError
    return rows.astype(np.float32)


def npy_reference(body: bytes, name: str) -> Rows:
    """Read .npy by NumPy."""
    stream = io.BytesIO(body)
    try:
        array = np.load(stream, allow_pickle=False)
    except Exception as error:  # it has many
        raise WrongError from error
    shape = (N,) if name == "features" else (len(array) if array.ndim else 0, N)
    if array.dtype.kind not in "fiu" or array.dtype.itemsize > 8 or array.shape != shape or not array.size:
        raise WrongError
    with np.errstate(over="ignore", invalid="ignore"):
        rows: Rows = array.astype(np.float32).reshape(-1, N)
    if not np.isfinite(rows).all() or stream.read(1):
        raise WrongError
    return rows


REFERENCES: Final = {
    JSON.media_type: json_reference,
    MSGPACK.media_type: msgpack_reference,
    NPY.media_type: npy_reference,
    RAW.media_type: raw_reference,
}


def expected(body: bytes, media_type: str, name: str) -> Rows | None:
    """Read a body by its reference; None if that does not take it."""
    try:
        return REFERENCES[media_type](body, name)
    except WrongError:
        return None


def check_batch(body: bytes, pieces: list[bytes], media_type: str) -> None:
    """Check a batch of any bytes: rows as the reference has them or a refusal, whole and in pieces, by every reader."""
    rows = expected(body, media_type, "events")
    for opened in readers(media_type).values():
        whole, parts = outcome(opened, [body]), outcome(opened, pieces)
        assert_as_expected(whole, rows, media_type)
        assert_as_expected(parts, rows, media_type)
        assert isinstance(whole, str) == isinstance(parts, str), (whole, parts)
    assert_as_expected(whole_outcome(body, media_type), rows, media_type)


def check_event(body: bytes, media_type: str) -> None:
    """Check one event of any bytes: the row as the reference has it, or a refusal."""
    assert_as_expected(event_outcome(body, media_type), expected(body, media_type, "features"), media_type)


def assert_as_expected(given: Outcome, rows: Rows | None, media_type: str) -> None:
    """Check that a body is refused where the reference refuses it, and else has the same numbers."""
    if media_type == NPY.media_type and isinstance(given, str) != (rows is None):
        # NumPy reads headers of Python 2, and unpacks arrays in an array.
        assert isinstance(given, str), given
        assert given.startswith(("the body is not an .npy file", "the array's dtype is (")), given
        return
    assert isinstance(given, str) == (rows is None), (given, rows)
    if isinstance(given, str):
        assert 0 < len(given) < 1000, given
        assert " object at 0x" not in given, given
    elif rows is not None:
        assert_same(given, rows)
