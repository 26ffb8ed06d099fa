"""Requests to infer that must be refused, each with a part of the message that it gets."""

import json
from math import inf, nan
from typing import Any

import numpy as np

from tests.artefacts import sample_events
from tests.service.api.bad_input import MAX_BODY_BYTES, MAX_EVENTS, Case
from tests.service.api.open_inference.infer_bodies import INFER, JSON_LENGTH, InferBody, alone, binary, nested, tensor
from tests.service.formats import bad_documents
from tests.service.formats.bad_arrays import with_number
from tests.service.formats.bad_documents import WRONG_NUMBERS
from tests.service.formats.bad_json import NOT_NUMBERS, TOO_LARGE

EVENTS = sample_events(2)
ROWS = EVENTS.tolist()
GOOD = json.dumps({"inputs": [tensor(EVENTS, data=ROWS)]})
DEEP = 10_000
LONG_TEXT = "x" * 20_000
TYPES = [(LONG_TEXT if value == bad_documents.LONG_TEXT else value, found) for value, found in bad_documents.TYPES]

Wrong = tuple[Any, str]
"""A document, and a part of the message that it gets."""


def of_input(message: str, **changes: Any) -> Wrong:
    """Change keys of the input."""
    return {"inputs": [tensor(EVENTS, **{"data": ROWS, **changes})]}, message


SHAPES = [
    *([], [10], [2, 5, 1], [2, 6], [5, 2], [0, 5], [-2, 5], [2, -5], [-2, -5], [2**4, 2**60 + 2], [2**62, 5]),
    *([2**64, 5], [1, 2**64 + 5], [10**400, 5], [1] * 1000),
]
COUNTS = [([1, 5], 1), ([3, 5], 3), ([2**40, 5], 2**40)]
"""Shapes of other numbers of events than there are."""

DOCUMENTS: list[Wrong] = [
    *((body, f"the body is {found}, expected an object") for body, found in TYPES if found != "an object"),
    ({}, 'missing key "inputs"'),
    ({"input": []}, 'missing key "inputs"'),
    ({"inputs": []}, "inputs has 0 tensors, expected 1"),
    ({"inputs": [tensor(EVENTS, data=ROWS)] * 2}, "inputs has 2 tensors, expected 1"),
    *(({"inputs": value}, f"inputs is {found}, expected a list") for value, found in TYPES if found != "a list"),
    *(({"inputs": [value]}, f"inputs[0] is {found}, expected an object") for value, found in TYPES[:6]),
    *((of_input(f'missing key "{key}" in inputs[0]', **{key: None})) for key in ("name", "shape", "datatype")),
    of_input("inputs[0] has no data", data=None),
    *(of_input(f"inputs[0].name is {found}, expected a string", name=value) for value, found in TYPES[1:3]),
    *(of_input(f"inputs[0].datatype is {found}, expected a string", datatype=value) for value, found in TYPES[1:3]),
    *(of_input(f"inputs[0].shape is {found}, expected a list", shape=value) for value, found in TYPES[1:4]),
    *(of_input("inputs[0].shape[0] is ", shape=[value, 5]) for value in (None, True, "2", 2.5, 1e300, [2])),
    *(of_input("", shape=shape) for shape in SHAPES),
    *(of_input(f"has 2 events, expected {n_events} by its shape", shape=shape) for shape, n_events in COUNTS),
    of_input("unexpected input 'x', expected 'features'", name="x"),
    of_input("unexpected input 'xxx", name=LONG_TEXT),
    *(
        of_input(f"has the datatype '{name}', expected FP32", datatype=name)
        for name in ("FP64", "FP16", "BF16", "INT32", "BOOL", "BYTES", "fp32", "")
    ),
    of_input("the data of inputs[0] is no list of numbers", data="1,2"),
    of_input("the data of inputs[0] is no list of numbers", data=7),
    of_input("the data of inputs[0] is no list of numbers", data={"0": ROWS}),
    of_input("events is empty", data=[]),
    of_input("events[0] has 0 features, expected 5", data=[[]]),
    of_input("events[0][0] (feature0) is a list, expected a number", data=[ROWS]),
    of_input("events[1] has 4 features, expected 5", data=[ROWS[0], ROWS[1][:4]]),
    of_input("the data of inputs[0] has 9 numbers, expected 5 for each event", data=[0.5] * 9),
    of_input("the data of inputs[0] has 3 events, expected 2 by its shape", data=[0.5] * 15),
    of_input("events[1] is a number, expected a list", data=[ROWS[0], 1.5]),
    of_input("events[1][0] (feature0) is a list, expected a number", data=[*ROWS[0], ROWS[1]]),
    *(of_input(detail, data=[ROWS[0], [1.0, 2.0, value, 4.0, 5.0]]) for value, detail in WRONG_NUMBERS),
    *(
        of_input(f"events[1][2] (feature2) {detail}", data=[*ROWS[0], 1.0, 2.0, value, 4.0, 5.0])
        for value, detail in WRONG_NUMBERS
        if value != "],["
    ),
    of_input("is a string, expected a number", data=[*ROWS[0], "],["]),
    ({**json.loads(GOOD), "id": 7}, "id is a number, expected a string"),
    ({**json.loads(GOOD), "id": "a\nb"}, "expected printable text"),
    ({**json.loads(GOOD), "parameters": [1]}, "parameters is a list, expected an object"),
    ({**json.loads(GOOD), "outputs": {}}, "outputs is an object, expected a list"),
    ({**json.loads(GOOD), "outputs": [{}]}, 'missing key "name" in outputs[0]'),
    ({**json.loads(GOOD), "outputs": [{"name": "x"}]}, "unexpected output 'x', expected 'anomaly_score'"),
    ({**json.loads(GOOD), "outputs": [{"name": "accepted"}]}, "needs the parameter working_point"),
    ({**json.loads(GOOD), "outputs": [{"name": "anomaly_score"}] * 2}, "named twice"),
    *(
        ({**json.loads(GOOD), "outputs": [{"name": "anomaly_score", "parameters": {key: value}}]}, detail)
        for key, value, detail in (
            ("binary_data", 1, "parameter binary_data is 1, expected true or false"),
            ("classification", 3, "classification is not offered"),
            ("shared_memory_region", "x", "shared memory is not offered"),
        )
    ),
    *(
        ({**json.loads(GOOD), "parameters": {key: value}}, detail)
        for key, value, detail in (
            ("working_point", "losse", "working_point is 'losse', expected one of loose, tight"),
            ("working_point", 1, "parameter working_point is 1, expected the name of one"),
            ("timeout", -1, "parameter timeout is -1"),
            ("timeout", 1.5, "parameter timeout is 1.5"),
            ("timeout", True, "parameter timeout is True"),
            ("sequence_id", 7, "sequences are not offered"),
            ("sequence_id", LONG_TEXT, "sequences are not offered"),
            ("binary_data_output", "yes", "parameter binary_data_output is 'yes', expected true or false"),
        )
    ),
    of_input("shared memory is not offered", data=None, parameters={"shared_memory_region": "x"}),
    of_input("no Inference-Header-Content-Length", data=None, parameters={"binary_data_size": 40}),
]

TEXTS: list[tuple[str, str]] = [
    *((GOOD[:length], "") for length in range(1, len(GOOD))),
    *((GOOD + tail, "the body is not valid JSON") for tail in (" x", "}", "]", ";", "\0", GOOD, "[" * DEEP)),
    *((" " * n_spaces, "") for n_spaces in (1, DEEP, 100_000)),
    *((GOOD.replace("{", opening, 1), "the body is not valid JSON") for opening in ("{,", "{{")),
    (GOOD[1:], "the body is a string, expected an object"),
    ("[" * DEEP, "the body is a list"),
    ('{"x":' * (3 * DEEP), "have no data of inputs[0]"),
    ('{"x":' * (DEEP // 2), "nested too deeply"),
    ('{"x":' + "[" * DEEP + "]" * DEEP + ', "inputs": []}', "nested too deeply"),
    (GOOD.replace('"inputs"', '"x": "' + "y" * 70_000 + '", "inputs"'), "have no data of inputs[0]"),
    (GOOD[:-1] + ', "x": "' + "y" * 70_000 + '"}', "of JSON follow the data of inputs[0]"),
    (GOOD.replace('"data"', '"data": [1], "data"'), ""),
    (GOOD.replace('"name"', '"data": [[1, 2, 3, 4, 5]], "name"'), "more than one data"),
    (GOOD.replace('"data"', r'"d\u0061ta"'), "not written plainly"),
    ('{"x": [' + '{"data": [1]},' * 20 + GOOD[1:], "more than 16 lists called data"),
    (GOOD.replace('"features"', '"\xe9"'), ""),
    *(
        (GOOD.replace(str(ROWS[1][2]), text).replace("[[", "[").replace("]]", "]").replace("], [", ", "), "")
        for text in (*NOT_NUMBERS, *TOO_LARGE)
    ),
    *((GOOD.replace(str(ROWS[1][2]), text), "") for text in (*NOT_NUMBERS, *TOO_LARGE)),
    (GOOD.replace("]]", "],]"), ""),
    (json.dumps({"inputs": [tensor(EVENTS, data=[0.5] * 10)]}).replace("0.5]", "0.5,]"), "after a comma"),
    (json.dumps({"inputs": [tensor(EVENTS, data=[0.5] * 10)]}).replace("0.5]", ",0.5]"), ""),
    (json.dumps({"inputs": [tensor(EVENTS, data=[0.5] * 10)]}).replace("0.5]", "7" * 100_000 + "]"), ""),
]


def of_binary(message: str, body: InferBody, n_json: int | str | None = None, **headers: str) -> tuple[InferBody, str]:
    """Change headers of a request with a binary input."""
    changed = {**body.headers, **headers} | ({} if n_json is None else {JSON_LENGTH: str(n_json)})
    return InferBody(body.body, changed), message


def sized(size: Any, **changes: Any) -> InferBody:
    """Say another size of a binary input."""
    document = {"inputs": [tensor(EVENTS, parameters={"binary_data_size": size}, **changes)]}
    text = json.dumps(document).encode()
    return InferBody(text + EVENTS.tobytes(), {JSON_LENGTH: str(len(text))})


BINARY = binary(EVENTS)
LENGTH = int(BINARY.headers[JSON_LENGTH])
BODIES: list[tuple[InferBody, str]] = [
    *(
        (InferBody(BINARY.body[:LENGTH] + data, BINARY.headers), "follow the JSON, expected 40")
        for data in (b"", b"\0", EVENTS.tobytes()[:-1], EVENTS.tobytes() + b"\0", bytes(100_000))
    ),
    *(of_binary("not valid JSON", BINARY, length) for length in (1, LENGTH - 1, LENGTH + 2, len(BINARY.body))),
    of_binary("39 bytes follow the JSON", BINARY, LENGTH + 1),  # the first of the tensor is a tab
    *(of_binary("expected at most", BINARY, length) for length in (len(BINARY.body) + 1, 10**18 - 1)),
    *(of_binary("expected one number of bytes", BINARY, text) for text in ("-1", "1.5", "x", "0x10", "9" * 30, "+1")),
    *((sized(size), "the binary_data_size of inputs[0] is ") for size in (0, -40, 39, 41, 40.0, "40", True, [40])),
    (sized(40, data=ROWS), ""),
    (sized(40, shape=[1, 5]), "the binary_data_size of inputs[0] is 40, expected 20 by its shape"),
    (sized(40, shape=[2**62, 5]), "the binary_data_size of inputs[0] is 40"),
    (sized(40, datatype="FP64"), "expected FP32"),
    (nested(EVENTS)._replace(headers={JSON_LENGTH: "0"}), "not a whole number of events"),
    (InferBody(nested(EVENTS).body + b"\0\0", {JSON_LENGTH: str(len(nested(EVENTS).body))}), "follow the JSON"),
    (binary(with_number(1, 3, nan, 2)), "events[1][3] (feature3) is nan, expected a finite number"),
    (binary(with_number(0, 0, -inf, 2)), "events[0][0] (feature0) is -inf, expected a finite number"),
    (binary(with_number(4500, 1, nan, 4501)), "events[4500][1] (feature1) is nan, expected a finite number"),
    (alone(with_number(1, 3, inf, 2)), "events[1][3] (feature3) is inf, expected a finite number"),
    *((InferBody(bytes(length), {JSON_LENGTH: "0"}), f"the body is {length} bytes") for length in (1, 19, 21)),
    (InferBody(b"", {}), "the body is empty"),
    (InferBody(b"", {JSON_LENGTH: "0"}), "the body is empty"),
]

TOO_MANY = sample_events(MAX_EVENTS + 1)
TOO_LARGE_BODIES: list[tuple[InferBody, str]] = [
    (alone(TOO_MANY), str(MAX_EVENTS)),
    (binary(TOO_MANY), str(MAX_EVENTS)),
    (nested(np.zeros_like(TOO_MANY)), str(MAX_EVENTS)),
    (InferBody(GOOD.encode().ljust(MAX_BODY_BYTES + 1), {}), str(MAX_BODY_BYTES)),
]


def case(body: InferBody, message: str, status: int = 400, path: str = INFER) -> Case:
    """Make a case of a body."""
    name = f"{path} {body.body[:60]!r}, {len(body.body)} bytes {body.headers}"
    return Case(name, message, status, "POST", path, tuple(body.headers.items()), body.body)


def unique(cases: list[Case]) -> list[Case]:
    """Leave out those that are there twice."""
    return list({(one.headers, one.path, one.body): one for one in cases}.values())


CASES: list[Case] = unique(
    [
        *(case(InferBody(json.dumps(document).encode(), {}), message) for document, message in DOCUMENTS),
        *(case(InferBody(text.encode("latin-1"), {}), message) for text, message in TEXTS),
        *(case(body, message) for body, message in BODIES),
        *(case(body, message, 413) for body, message in TOO_LARGE_BODIES),
        case(nested(EVENTS)._replace(headers={"Content-Encoding": "br"}), "expected gzip, deflate or none", 415),
        case(nested(EVENTS)._replace(headers={"Content-Encoding": "gzip, gzip"}), "expected gzip", 415),
        *(
            case(nested(EVENTS)._replace(headers={"Content-Encoding": encoding}), f"not valid {encoding}")
            for encoding in ("gzip", "deflate")
        ),
        *(
            case(nested(EVENTS), f"Request for unknown model: {named} is not found", 404, f"/v2/models/{path}/infer")
            for path, named in (
                ("x", "'x'"),
                ("Sphere", "'Sphere'"),
                ("x" * 900, "'" + "x" * 100 + "'"),
                ("sphere/versions/2", "'sphere' version 2"),
                ("sphere/versions/1.2.3", "'sphere' version 1.2.3"),
            )
        ),
        case(nested(EVENTS), "is not a route", 404, "/v2/models/sphere/infers"),
        case(nested(EVENTS), "models are not loaded by clients", 501, "/v2/repository/models/sphere/load"),
        case(nested(EVENTS), "shared memory is not offered", 501, "/v2/systemsharedmemory/region/x/register"),
        Case("GET infer", "does not take GET", 405, "GET", INFER),
        Case("GET x", "Request for unknown model: 'x' is not found", 404, "GET", "/v2/models/x"),
        Case("GET x/config", "Request for unknown model: 'x' is not found", 404, "GET", "/v2/models/x/config"),
        Case("GET x/stats", "Request for unknown model: 'x' is not found", 404, "GET", "/v2/models/x/stats"),
        Case("GET x/ready", "Request for unknown model: 'x' is not found", 404, "GET", "/v2/models/x/ready"),
        Case("GET logging", "the log is set by the operator", 501, "GET", "/v2/logging"),
    ]
)
