"""The Open Inference Protocol in the OpenAPI description."""

from typing import Any, Final

from service.api.error_responses import OPEN_INFERENCE
from service.api.open_inference.description import ACCEPTED_NAME, BOOLEAN, FLOAT, VERSION
from service.api.open_inference.parameters import MODEL_IDENTITY, SCORE_THRESHOLD, TIMEOUT, WORKING_POINT
from service.model.artefact import INPUT_NAME, OUTPUT_NAME, Artefact

Json = dict[str, Any]

JSON_LENGTH: Final[Json] = {
    "name": "Inference-Header-Content-Length",
    "in": "header",
    "required": False,
    "description": "The bytes of the JSON that binary tensors follow; without it, all of the body is JSON.",
    "schema": {"type": "integer", "minimum": 0},
}

VERSIONED: Final = "/versions/{version}"

BINARY: Final = "JSON, of as many bytes as Inference-Header-Content-Length says, and after it the tensors' bytes."


def paths(document: Json) -> list[str]:
    """Return the paths of the protocol in the document."""
    return [path for path in document["paths"] if path == OPEN_INFERENCE or path.startswith(f"{OPEN_INFERENCE}/")]


def describe(document: Json, artefact: Artefact, name: str) -> None:
    """Add the names of models and the bodies of inference requests."""
    document["paths"] = _ordered(document["paths"])
    schemas: Json = document["components"]["schemas"]
    schemas["OpenInferenceError"] = _object({"error": {"type": "string"}})
    schemas["InferRequest"] = _request(artefact)
    schemas["InferResponse"] = _response()
    for path in paths(document):
        for operation in document["paths"][path].values():
            for parameter in operation.get("parameters", ()):
                parameter["schema"]["enum"] = [name if parameter["name"] == "name" else VERSION]
            if path.endswith("/infer"):
                _describe_infer(operation, artefact)


def _ordered(paths: Json) -> Json:
    """Sort each path with a version after the one without: Litestar orders the paths of a handler arbitrarily."""
    first = {path: place for place, path in reversed([*enumerate(path.replace(VERSIONED, "") for path in paths)])}
    return dict(sorted(paths.items(), key=lambda item: (first[item[0].replace(VERSIONED, "")], VERSIONED in item[0])))


def _describe_infer(operation: Json, artefact: Artefact) -> None:
    golden = artefact.metadata.golden
    values = [value for event in golden.features[:2] for value in event]
    n_events = len(golden.features[:2])
    tensor = {"name": INPUT_NAME, "shape": [n_events, artefact.n_features], "datatype": FLOAT, "data": values}
    binary = {"schema": {"type": "string", "format": "binary", "description": BINARY}}
    operation["parameters"].append(JSON_LENGTH)
    operation["requestBody"] = {
        "description": f"{artefact.n_features} raw features of each event; Content-Type is not needed.",
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/InferRequest"},
                "examples": {"model": {"summary": "From the model's file", "value": {"inputs": [tensor]}}},
            },
            "application/octet-stream": binary,
        },
    }
    version = {"description": f"Name and hash of the model that scored, as {artefact.identity}."}
    operation["responses"]["200"] = {
        "description": "Binary where a parameter of the request asks for it.",
        "headers": {"Model-Version": {**version, "schema": {"type": "string"}}},
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/InferResponse"}},
            "application/octet-stream": binary,
        },
    }


def _request(artefact: Artefact) -> Json:
    n_features, number = artefact.n_features, {"type": "number"}
    points = [point.name for point in artefact.metadata.working_points]
    rows = _list(_list(number, minItems=n_features, maxItems=n_features), minItems=1)
    known = {
        WORKING_POINT: {"type": "string", **({"enum": points} if points else {})},
        TIMEOUT: {"type": "integer", "minimum": 0, "description": "Microseconds."},
        "binary_data_output": {"type": "boolean"},
    }
    tensor = _object(
        {
            "name": {"type": "string", "enum": [INPUT_NAME]},
            "shape": {
                **_list({"type": "integer", "minimum": 1}, minItems=2, maxItems=2),
                "description": "[n, features]",
            },
            "datatype": {"type": "string", "enum": [FLOAT]},
        },
        data={"oneOf": [rows, _list(number, minItems=n_features)], "description": "Row after row, nested or flat."},
        parameters={"type": "object", "properties": {"binary_data_size": {"type": "integer", "minimum": 1}}},
    )
    output = _object(
        {"name": {"type": "string", "enum": [OUTPUT_NAME, ACCEPTED_NAME]}},
        parameters={"type": "object", "properties": {"binary_data": {"type": "boolean"}}},
    )
    return _object(
        {"inputs": _list(tensor, minItems=1, maxItems=1)},
        id={"type": "string"},
        parameters={"type": "object", "properties": known},
        outputs=_list(output),
    )


def _response() -> Json:
    text, integer = {"type": "string"}, {"type": "integer"}
    tensor = _object(
        {"name": text, "datatype": {"type": "string", "enum": [FLOAT, BOOLEAN]}, "shape": _list(integer)},
        data=_list({"type": ["number", "boolean"]}),
        parameters={"type": "object", "properties": {"binary_data_size": integer}},
    )
    parameters = _object({MODEL_IDENTITY: text}, **{SCORE_THRESHOLD: {"type": "number"}})
    required = {"model_name": text, "model_version": text, "parameters": parameters, "outputs": _list(tensor)}
    return _object(required, id=text)


def _object(required: Json, **optional: Json) -> Json:
    """Make the schema of an object, which may have other keys."""
    return {"type": "object", "properties": {**required, **optional}, "required": list(required)}


def _list(items: Json, **limits: int) -> Json:
    return {"type": "array", "items": items, **limits}
