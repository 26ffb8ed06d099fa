"""Wrong batches are refused with the same message however they arrive, wherever in the body the fault is."""

import struct
from collections.abc import Iterator

import numpy as np
import pytest

from benchmarks.load.formats import MSGPACK, npy_bytes
from service.formats.format import BLOCK_EVENTS
from tests.artefacts import feature_names
from tests.service.api.bad_input import MAX_BODY_BYTES, MAX_EVENTS, SCORE_BATCH
from tests.service.formats import bad_arrays, bad_documents, bad_json, bad_msgpack, references
from tests.service.formats.encodings import (
    DOCUMENTS,
    ENCODINGS,
    JSON_READERS,
    OPEN_MSGPACK,
    OPEN_NPY,
    by_columns,
    compact,
    events_of,
    syntax_message,
)
from tests.service.formats.references import Open, Outcome, event_outcome, outcome, random_pieces, readers

NAMES = feature_names(5)
ROW = [1.5] * 5

FAR = BLOCK_EVENTS + 3
"""A row after a whole block, where every third fault is tried: what was read before has no other effect."""
ROWS = {0: 1, 3: 1, FAR: 3}
"""Places of a fault, and how many faults are passed over."""


def refusal(opened: Open, body: bytes) -> str:
    """Return the message of a refusal, which is the same however the body arrives."""
    return references.refusal(opened, body, NAMES)


def outcomes(path: str, body: bytes, media_type: str) -> Iterator[tuple[str, Outcome]]:
    """Read a body by every reader, whole and in pieces."""
    if path != SCORE_BATCH:
        yield "event", event_outcome(body, media_type, NAMES)
        return
    for name, opened in readers(media_type).items():
        for pieces in ([body], [*random_pieces(body, 3), b""], random_pieces(body, 20)):
            yield f"{name}, {len(pieces)} pieces", outcome(opened, pieces, NAMES, MAX_EVENTS)


TABLES = {
    "documents": bad_documents.CASES,
    "json": bad_json.CASES,
    "msgpack": bad_msgpack.CASES,
    "arrays": bad_arrays.CASES,
}


@pytest.mark.parametrize("table", TABLES)
def test_every_body_of_the_tables_is_refused_by_every_reader(table: str, subtests: pytest.Subtests) -> None:
    """The message names the place for every reader of a format and however the body arrives."""
    for case in TABLES[table]:
        if len(case.body) > MAX_BODY_BYTES:
            continue  # HTTP limits the bytes
        [(_, media_type)] = case.headers
        for reader, found in outcomes(case.path, case.body, media_type):
            with subtests.test(f"{case.name}, {reader}"):
                assert isinstance(found, str)
                assert case.detail in found


@pytest.mark.parametrize(("row", "step"), ROWS.items())
def test_a_wrong_event_is_named_wherever_it_is(row: int, step: int, subtests: pytest.Subtests) -> None:
    """The message counts the rows of the whole body, however many were read and forgotten before the wrong one."""
    wrong_counts = [(event, f" {detail}") for event, detail in bad_documents.WRONG_COUNTS]
    for event, detail in [*bad_documents.WRONG_EVENTS, *wrong_counts][::step]:
        for encoding in DOCUMENTS:
            with subtests.test(f"{encoding.name}, {detail}"):
                body = encoding.of_rows([*[ROW] * row, event, *[ROW] * 50])
                assert refusal(encoding.open, body) == f"events[{row}]{detail}"


def test_a_number_that_is_not_finite_is_named_wherever_it_is(subtests: pytest.Subtests) -> None:
    """The message counts the rows of the whole body, and names the feature."""
    for name, encoding in ENCODINGS.items():
        if np.dtype(encoding.dtype).kind == "f" and "json" not in name:
            for row in ROWS:
                with subtests.test(f"{name}, {row}"):
                    events = events_of(row + 50).astype(encoding.dtype)
                    events[row, 2], events[row, 4] = np.nan, np.inf
                    body = encoding.write(events)
                    message = f"events[{row}][2] (feature2) is nan, expected a finite number"
                    assert refusal(encoding.open, body) == message


@pytest.mark.parametrize("pattern", [0x7FF0000000000001, 0xFFF4000000000000])
def test_a_signalling_nan_is_refused_without_a_warning(pattern: int) -> None:
    """The NaN for which a processor raises a flag is refused as any other, and nothing is printed."""
    events = events_of(9).astype("<f8")
    events[4, 1] = 1e99
    packed = MSGPACK.write("events", events).replace(struct.pack(">d", 1e99), struct.pack(">Q", pattern))
    events.view("<u8")[4, 1] = pattern
    for opened, body in ((OPEN_NPY, npy_bytes(events)), (OPEN_NPY, by_columns(events)), (OPEN_MSGPACK, packed)):
        assert refusal(opened, body) == "events[4][1] (feature1) is nan, expected a finite number"


def test_rows_are_counted_one_by_one(subtests: pytest.Subtests) -> None:
    """A number too few in one row is not made up for by one too many in the next."""
    for encoding in DOCUMENTS:
        for row in (0, 2, BLOCK_EVENTS - 2, BLOCK_EVENTS - 1):
            for n_first, n_second in ((4, 6), (6, 4)):
                with subtests.test(f"{encoding.name}, row {row}, {n_first}"):
                    rows = [*[ROW] * row, [1.5] * n_first, [1.5] * n_second, *[ROW] * 300]
                    message = f"events[{row}] has {n_first} features, expected 5"
                    assert refusal(encoding.open, encoding.of_rows(rows)) == message


def json_with(row: int, wrong: str) -> bytes:
    """Write a batch in JSON whose row with this number is replaced, with one good row after it."""
    rows = [*["[1.5, 1.5, 1.5, 1.5, 1.5]"] * row, wrong, "[1, 2, 3, 4, 5]"]
    return f'{{"events": [{", ".join(rows)}]}}'.encode("latin-1")


@pytest.mark.parametrize("reader", JSON_READERS)
def test_broken_json_is_refused_at_its_byte_wherever_that_is(reader: str, subtests: pytest.Subtests) -> None:
    """The message counts the bytes of the whole body, however many were read and forgotten before the wrong one."""
    for row, step in ROWS.items():
        for wrong in ("", *bad_json.NOT_EVENTS)[::step]:
            with subtests.test(f"{wrong!r}, row {row}"):
                body = json_with(row, wrong)
                assert refusal(JSON_READERS[reader], body) == syntax_message("JSON", body)


@pytest.mark.parametrize("reader", JSON_READERS)
def test_json_with_a_wrong_end_is_refused_at_its_byte(reader: str, subtests: pytest.Subtests) -> None:
    """A body that breaks off anywhere, or goes on after its rows, is refused where msgspec stops reading."""
    more = (b"]", b"}", b",]}", b"]]}", b"],}", b"]} x", b"]}]", b"]}\x00", b'], "id"}')
    for n_events in (1, FAR):
        body = compact(events_of(n_events))
        broken = [body[:length] for length in range(1 if n_events == 1 else len(body) - 9, len(body))]
        for wrong in [*broken, *(body.removesuffix(b"]}") + tail for tail in more)]:
            with subtests.test(f"{n_events} events, {wrong[-30:]!r}"):
                # A comma before the end of the list is seen where the next row should start.
                message = syntax_message("JSON", wrong).replace("trailing comma in array", "invalid character")
                assert refusal(JSON_READERS[reader], wrong) == message


@pytest.mark.parametrize("reader", JSON_READERS)
def test_of_two_faults_in_json_the_first_is_named(reader: str) -> None:
    """A wrong type is named, though a later byte makes the body no JSON."""
    for wrong, message in (
        ("[1,2,3,4,5", "events[{row}][5] is a list, expected a number"),
        ("1,2,3,4,5]", "events[{row}] is a number, expected a list of 5 numbers"),
        ('[1,2,3,4,"\xc3"]', "events[{row}][4] (feature4) is a string, expected a number"),
        ("1e400", "events[{row}] cannot be read: Number out of range"),
    ):
        for row in ROWS:
            assert outcome(JSON_READERS[reader], [json_with(row, wrong)], NAMES) == message.format(row=row)


def test_broken_messagepack_is_refused_at_its_byte_wherever_that_is() -> None:
    """The message counts the bytes of the whole body, however many were read and forgotten before the wrong one."""
    for name in ("msgpack", "msgpack float32"):
        encoding = ENCODINGS[name]
        for row in ROWS:
            body = bytearray(encoding.write(events_of(row + 50)))
            row_bytes = len(body) - len(encoding.write(events_of(row + 49)))
            body[len(body) - 50 * row_bytes if row else 11] = 0xC1
            assert refusal(encoding.open, bytes(body)) == syntax_message("MessagePack", bytes(body))


def test_a_second_key_is_refused(subtests: pytest.Subtests) -> None:
    """A key before the list or after it is refused by its name, and the same key again by there being two."""
    late = 'the first 65536 bytes are not those of a batch, expected an object with the key "events"'
    named = 'unknown key "id", expected "events"'
    for encoding in DOCUMENTS:
        for n_events in (1, 50, FAR):
            with subtests.test(f"{encoding.name}, {n_events} events"):
                rows = events_of(n_events).tolist()
                # MessagePack announces the number of keys at its start.
                behind = late if "msgpack" in encoding.name and n_events == FAR else named
                assert refusal(encoding.open, encoding.of_document({"id": 1, "events": rows})) == named
                assert refusal(encoding.open, encoding.of_document({"events": rows, "id": 1})) == behind
    for opened in JSON_READERS.values():
        for n_events in (1, FAR):
            rows = compact(events_of(n_events))[1:-1]
            for second in (rows, b'"events":[[1,2,3,4,5]]'):
                assert refusal(opened, b"{%b,%b}" % (rows, second)) == 'the key "events" appears more than once'


def test_a_body_that_is_too_short_or_too_long_is_refused(subtests: pytest.Subtests) -> None:
    """No format takes the start of a body for the whole, or leaves bytes unread."""
    for encoding in ENCODINGS.values():
        if "json" not in encoding.name:
            for n_events in (1, FAR):
                with subtests.test(f"{encoding.name}, {n_events} events"):
                    body = encoding.write(events_of(n_events).astype(encoding.dtype))
                    for wrong in (*(body[:-n] for n in (1, 2, 3, 7, 13)), *(body + more for more in (b"\0", b"\xc0"))):
                        assert refusal(encoding.open, wrong)
