"""The API's description: OpenAPI, with the formats in use, and the sizes, names and examples of the model in use."""

from typing import Any

from service import errors
from service.formats.format import Content
from service.formats.table import Formats
from service.model.artefact import Artefact

Json = dict[str, Any]

INTERNAL = Exception
"""Any error that is no ServiceError."""

ERRORS: dict[type[Exception], tuple[str, str]] = {
    errors.MalformedRequestError: ("The request is not valid HTTP.", "the request is not valid HTTP"),
    errors.InvalidRequestError: (
        "The request is wrong; `detail` names the place, the value and what was expected.",
        "events[3] has 13 features, expected 14",
    ),
    errors.UnauthorisedError: (
        "The request has no API key, or an unknown one.",
        "the API key is not known; ask the operator of the service for one",
    ),
    errors.NotAcceptableError: ("`Accept` allows no format of the service.", 'Accept is "text/html", expected {}'),
    errors.RequestTimeoutError: ("The request took too long to arrive.", "the request's head took longer than 10 s"),
    errors.BodyTooLargeError: (
        "The body is longer than the limit, or has more events.",
        "the body is 70000000 bytes, expected at most 67108864: send smaller batches",
    ),
    errors.UriTooLongError: ("The URL is too long.", "the URL is 5000 bytes, expected at most 4096"),
    errors.UnsupportedMediaTypeError: (
        "`Content-Type` is no format of the service.",
        'Content-Type is "text/csv", expected {}',
    ),
    errors.HeadersTooLargeError: (
        "The headers are too long.",
        "the request's head is 20000 bytes, expected at most 16384",
    ),
    INTERNAL: ("The service failed.", "internal error"),
    errors.NotReadyError: ("The service does not score now: `detail` is starting or draining.", "draining"),
    errors.OverloadedError: (
        "The service is starting or draining, or has as much work in flight as it takes: send the request again.",
        "starting",
    ),
}
"""When a client gets an error, and an example of its detail."""

ANY_ROUTE = (
    errors.MalformedRequestError,
    errors.RequestTimeoutError,
    errors.UriTooLongError,
    errors.HeadersTooLargeError,
    INTERNAL,
)
SCORING = (
    *ANY_ROUTE,
    errors.InvalidRequestError,
    errors.NotAcceptableError,
    errors.BodyTooLargeError,
    errors.UnsupportedMediaTypeError,
    errors.OverloadedError,
)
ROUTES = {
    "/score": SCORING,
    "/score/batch": SCORING,
    "/health": (*ANY_ROUTE, errors.NotReadyError),
    "/model": (*ANY_ROUTE, errors.NotReadyError),
    "/metrics": (*ANY_ROUTE, errors.OverloadedError),
}
"""The errors of each route."""
WITHOUT_KEY = "/health"
"""The route that needs no API key."""


def describe(document: Json, artefact: Artefact, formats: Formats) -> Json:
    """Complete the `document` that Litestar derives from the handlers with the bodies and errors of every route."""
    schemas: Json = document.setdefault("components", {}).setdefault("schemas", {})
    schemas["ErrorBody"] = _object({"status_code": {"type": "integer"}, "detail": {"type": "string"}})
    n, golden = artefact.n_features, artefact.metadata.golden
    number, event = {"type": "number"}, _list({"type": "number"}, minItems=n, maxItems=n)
    event["description"] = ", ".join(artefact.metadata.feature_names)
    bodies: dict[str, tuple[Content, Json, Content, Json]] = {
        "/score": (
            Content("Event", f"({n},)", _object({"features": event})),
            {"features": golden.features[0]},
            Content("Score", "()", _object({"anomaly_score": number}, accepted={"type": "boolean"})),
            {"anomaly_score": golden.anomaly_scores[0]},
        ),
        "/score/batch": (
            Content("Events", f"(n, {n})", _object({"events": _list(event, minItems=1)})),
            {"events": golden.features[:2]},
            Content("Scores", "(n,)", _object({"anomaly_scores": _list(number)}, accepted=_list({"type": "boolean"}))),
            {"anomaly_scores": golden.anomaly_scores[:2]},
        ),
    }
    for path, (sent, sent_example, returned, returned_example) in bodies.items():
        operation = document["paths"][path]["post"]
        operation["parameters"] = [_working_point(artefact)]
        operation["requestBody"] = {
            "description": f"{n} raw features of each event, in the order that GET /model names.",
            "required": True,
            "content": _content(sent, sent_example, formats, schemas),
        }
        operation["responses"]["200"] = {
            "description": "The format is the request's, unless `Accept` asks for another.",
            "headers": {
                "Model-Version": _header(f"Name and hash of the model that scored, as {artefact.identity}."),
                "Score-Threshold": _header("Threshold of the working point, if the request names one."),
            },
            "content": _content(returned, returned_example, formats, schemas),
        }
    for path, kinds in ROUTES.items():
        for operation in document["paths"].get(path, {}).values():  # none where it is on the operations port alone
            keyed = [errors.UnauthorisedError] if document.get("security") and path != WITHOUT_KEY else []
            described = {str(errors.STATUSES.get(kind, 500)): _error(kind, formats) for kind in (*kinds, *keyed)}
            operation["responses"] = {"200": operation["responses"]["200"], **described}
    if document.get("security"):
        document["paths"][WITHOUT_KEY]["get"]["security"] = []
    return document


def _content(content: Content, example: Json, formats: Formats, schemas: Json) -> Json:
    """Describe a body in every format; adds the schemas of documents to `schemas`."""
    described = {}
    for one in formats.all:
        schema = one.schema(content)
        described[one.media_type] = {"schema": schema}
        if title := schema.get("title"):
            schemas[title] = schema
            examples = {"model": {"summary": "From the model's file", "value": example}}
            described[one.media_type] = {"schema": _reference(title), "examples": examples}
    return described


def _error(kind: type[Exception], formats: Formats) -> Json:
    status = errors.STATUSES.get(kind, errors.INTERNAL_ERROR)
    description, detail = ERRORS[kind]
    example = {"status_code": status, "detail": detail.format(f"one of {formats.media_types}")}
    content = {"application/json": {"schema": _reference("ErrorBody"), "examples": {"error": {"value": example}}}}
    headers = {name: _header(f"As in {value!r}.") for name, value in errors.headers(status).items()}
    headers.pop("Cache-Control")
    return {"description": description, "content": content, **({"headers": headers} if headers else {})}


def _working_point(artefact: Artefact) -> Json:
    names = [point.name for point in artefact.metadata.working_points]
    return {
        "name": "working_point",
        "in": "query",
        "required": False,
        "description": "Adds `accepted`, whether the score is above this working point's threshold, to the response.",
        "schema": {"type": "string", **({"enum": names} if names else {})},
    }


def _object(required: Json, **optional: Json) -> Json:
    """Make the schema of an object without other keys."""
    properties = {**required, **optional}
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def _list(items: Json, **limits: int) -> Json:
    return {"type": "array", "items": items, **limits}


def _header(description: str) -> Json:
    return {"description": description, "schema": {"type": "string"}}


def _reference(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}
