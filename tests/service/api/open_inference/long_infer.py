"""Long requests to infer that are wrong: of any size, each with its message."""

from benchmarks.load.formats import JSON
from service.formats.format import EVENT_BYTES
from service.formats.infer_documents import TEXT_BYTES
from tests.service.api.open_inference.infer_bodies import INFER
from tests.service.formats.long_bodies import ROW, TEXT_ROW, LongBody, filled

INPUT = b'{"inputs":[{"name":"features","datatype":"FP32","data":['
SHAPED = b'{"inputs":[{"name":"features","datatype":"FP32","shape":[7,5],"data":['
NO_DATA = f"the first {TEXT_BYTES} bytes of the JSON have no data of inputs[0]"
END = b'],"shape":[1,5]}]}'

TABLE = {
    "a text": (filled(b'"', b"x", b'"'), NO_DATA),
    "spaces": (filled(b"", b" "), NO_DATA),
    "lists in lists": (filled(b"", b"["), NO_DATA),
    "millions of keys": (filled(b"{", b'"":0,', b'"":0}'), NO_DATA),
    "lists called data": (filled(b"{", b'"x":[{"data":[1]}],'), "lists called data, expected one"),
    "a long name": (filled(b'{"inputs":[{"name":"', b"x"), NO_DATA),
    "spaces before the numbers": (filled(INPUT, b" "), "not valid JSON: it ends early"),
    "spaces among the numbers": (filled(INPUT + b"1,", b" "), f"does not end within {EVENT_BYTES} bytes"),
    "a long number": (filled(INPUT, b"7", b",2,3,4,5" + END), f"does not end within {EVENT_BYTES} bytes"),
    "numbers without an end": (filled(INPUT, b"1.5,"), "not valid JSON: it ends early"),
    "rows without an end": (filled(INPUT, ROW), "not valid JSON: it ends early"),
    "commas": (filled(INPUT, b","), "events[0] is not valid JSON"),
    "empty rows": (filled(INPUT, b"[],", b"[]" + END), "events[0] has 0 features, expected 5"),
    "lists in rows": (filled(INPUT + ROW, b"["), "events[1][0] (feature0) is a list, expected a number"),
    "a text behind the numbers": (filled(INPUT + b"1,2,3,4,5]", b"x"), f"{TEXT_BYTES} bytes or more of JSON follow"),
    "spaces behind the numbers": (filled(INPUT + b"1,2,3,4,5]", b" "), f"{TEXT_BYTES} bytes or more of JSON follow"),
    "another shape": (filled(SHAPED, ROW, b"[1,2,3,4,5]]}]}"), "expected 7 by its shape"),
    "another shape behind": (filled(INPUT, b"1,2,3,4,5,", b"1,2,3,4,5" + END), "expected 1 by its shape"),
    "the last of rows": (filled(INPUT, ROW, TEXT_ROW[:-1] + b"}]}"), "is a string, expected a number"),
    "the last of numbers": (filled(INPUT, b"1,2,3,4,5,", b'1,2,3,4,"5"' + END), "is a string, expected a number"),
}
LONG_INFER = {f"infer, {name}": LongBody(INFER, JSON, write, message) for name, (write, message) in TABLE.items()}
