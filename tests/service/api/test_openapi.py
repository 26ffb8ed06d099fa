"""The API's description is complete, true, and readable without internet."""

import re
from typing import Any

import numpy as np
import pytest
from litestar import Litestar
from litestar.testing import TestClient

from service import __version__
from service.api.app import create_app
from service.model.artefact import parse_artefact
from service.settings import Settings
from tests.artefacts import N_FEATURES, metadata, model

Client = TestClient[Litestar]
MEDIA_TYPES = {"application/json", "application/msgpack", "application/octet-stream", "application/x-npy"}
DECISIONS = {"application/octet-stream; dtype=bool", "application/x-npy; dtype=bool"}


@pytest.fixture(scope="module")
def schema(client: Client) -> dict[str, Any]:
    """Fetch the description, which has two addresses."""
    response = client.get("/schema")
    assert response.headers["content-type"].startswith("application/vnd.oai.openapi+json")
    assert response.json() == client.get("/schema/openapi.json").json()
    described: dict[str, Any] = response.json()
    return described


def resolved(schema: dict[str, Any], reference: dict[str, str]) -> dict[str, Any]:
    """Follow a reference into the document."""
    node: Any = schema
    for key in reference["$ref"].removeprefix("#/").split("/"):
        node = node[key]
    found: dict[str, Any] = node
    return found


def references(node: Any) -> list[dict[str, str]]:
    """Find all references in a part of the document."""
    if isinstance(node, dict):
        return [node] if "$ref" in node else [ref for value in node.values() for ref in references(value)]
    return [ref for value in node for ref in references(value)] if isinstance(node, list) else []


def test_every_route_is_documented(schema: dict[str, Any]) -> None:
    """The description holds all routes with their methods, each with a summary and a description."""
    routes = {(path, method) for path, item in schema["paths"].items() for method in item}
    read = {(path, "get") for path in ("/health", "/model", "/metrics")}
    of_models = {
        (f"/v2/models/{{name}}{version}{end}", "post" if end == "/infer" else "get")
        for version in ("", "/versions/{version}")
        for end in ("", "/config", "/ready", "/stats", "/infer")
    }
    others = {(f"/v2{end}", "get") for end in ("", "/health/live", "/health/ready", "/models", "/models/stats")}
    v2 = {*of_models, *others, ("/v2/repository/index", "post")}
    assert routes == {("/score", "post"), ("/score/batch", "post"), *read, *v2}
    for path, method in routes:
        operation = schema["paths"][path][method]
        assert operation["summary"]
        assert operation["description"].endswith(".")
        assert operation["tags"]


def test_every_reference_leads_somewhere(schema: dict[str, Any]) -> None:
    """No part of the description refers to one that is missing."""
    found = references(schema)
    assert found
    for reference in found:
        assert resolved(schema, reference)["type"] == "object"


@pytest.mark.parametrize("path", ["/score", "/score/batch"])
def test_scoring_is_documented_whole(schema: dict[str, Any], path: str) -> None:
    """Bodies in all four formats, the query parameter, the headers and every error are there."""
    operation = schema["paths"][path]["post"]
    assert operation["requestBody"]["required"] is True
    assert set(operation["requestBody"]["content"]) == MEDIA_TYPES
    responses = operation["responses"]
    assert set(responses) == {"200", "400", "406", "408", "413", "414", "415", "431", "500", "503"}
    assert set(responses["200"]["content"]) == MEDIA_TYPES | DECISIONS
    assert set(responses["200"]["headers"]) == {"Model-Version", "Score-Threshold"}
    for status, response in responses.items():
        if status != "200":
            error = resolved(schema, response["content"]["application/json"]["schema"])
            assert set(error["required"]) == {"status_code", "detail"}
    parameter, *others = operation["parameters"]
    assert [other["name"] for other in others] == (["events"] if path == "/score/batch" else []) + ["explain"]
    assert (parameter["name"], parameter["in"], parameter["required"]) == ("working_point", "query", False)
    assert parameter["schema"]["enum"] == ["loose", "tight"]
    assert all(media_type in parameter["description"] for media_type in DECISIONS)


def test_health_and_model_document_when_they_are_not_there(schema: dict[str, Any]) -> None:
    """The routes that need the model say that they are 503 without it, and when to come again."""
    for path in ("/health", "/model"):
        responses = schema["paths"][path]["get"]["responses"]
        assert set(responses) == {"200", "400", "408", "414", "431", "500", "503"}
        assert set(responses["503"]["headers"]) == {"Retry-After"}


def test_paths_of_a_version_follow_those_without(schema: dict[str, Any]) -> None:
    """The routes of the Open Inference Protocol are in the same order in every process, and name their own error."""
    paths = list(schema["paths"])
    versioned = [path for path in paths if "/versions/" in path]
    assert len(versioned) == 5
    for path in versioned:
        assert paths[paths.index(path) - 1] == path.replace("/versions/{version}", "")
        for operation in schema["paths"][path].values():
            assert not any("`detail`" in response["description"] for response in operation["responses"].values())


def test_the_schema_knows_the_size_of_an_event(schema: dict[str, Any]) -> None:
    """An event's length and its features' names are those of the model in use."""
    features = schema["components"]["schemas"]["Event"]["properties"]["features"]
    assert features["minItems"] == features["maxItems"] == N_FEATURES
    assert features["description"] == ", ".join(metadata().feature_names)


@pytest.mark.parametrize(("path", "key"), [("/score", "features"), ("/score/batch", "events")])
def test_messagepack_may_hold_binary_rows(schema: dict[str, Any], path: str, key: str) -> None:
    """The request in MessagePack is documented as lists or one binary string, that in JSON as lists alone."""
    content = schema["paths"][path]["post"]["requestBody"]["content"]
    packed = resolved(schema, content["application/msgpack"]["schema"])["properties"][key]
    listed = resolved(schema, content["application/json"]["schema"])["properties"][key]
    assert packed["oneOf"][0] == listed
    assert (packed["oneOf"][1]["type"], packed["oneOf"][1]["format"]) == ("string", "binary")


@pytest.mark.parametrize("path", ["/score", "/score/batch"])
def test_the_page_fills_in_json_alone(schema: dict[str, Any], path: str) -> None:
    """For every other format it asks for a file, as it does where the schema of a body is called binary."""
    content = schema["paths"][path]["post"]["requestBody"]["content"]
    for kind, body in content.items():
        described = resolved(schema, body["schema"]) if "$ref" in body["schema"] else body["schema"]
        assert (described.get("format") == "binary") is (kind != "application/json")


def test_the_document_has_an_introduction_and_the_version(schema: dict[str, Any]) -> None:
    """It says what the interface is, and of which version of the service."""
    assert schema["info"]["version"] == __version__
    assert "`POST /score`" in schema["info"]["description"]


@pytest.mark.parametrize("path", ["/score", "/score/batch"])
def test_the_examples_work_as_they_stand(client: Client, schema: dict[str, Any], path: str) -> None:
    """Sending the documented example gives the documented response."""
    operation = schema["paths"][path]["post"]
    sent, expected = (
        part["content"]["application/json"]["examples"]["model"]["value"]
        for part in (operation["requestBody"], operation["responses"]["200"])
    )
    returned = client.post(path, json=sent).json()
    assert returned.keys() == expected.keys()
    for key, value in expected.items():
        assert returned[key] == pytest.approx(value, rel=1e-5)
        assert all(len(str(score)) <= 12 for score in np.atleast_1d(value))  # as float32 has


def test_names_of_the_model_are_no_markup() -> None:
    """A feature called like the end of a script does not end the page's script."""
    names = ["</script><b>", "b"]
    artefact = parse_artefact(model(metadata(names=names)).SerializeToString())
    with TestClient(create_app(Settings(), artefact).main) as client:
        page = client.get("/docs").text
        assert "</script><b>" not in page
        assert page.count("</script>") == page.count("<script")
        described = client.get("/schema").json()["components"]["schemas"]["Event"]["properties"]["features"]
        assert described["description"] == ", ".join(names)


def test_the_page_needs_no_other_host(client: Client) -> None:
    """The page at /docs loads scripts and styles from the service alone, and they are there."""
    page = client.get("/docs")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "//" not in re.sub(r"https?://json-schema\.org\S*", "", page.text)
    assets = re.findall(r"(?:src|href)=[\"']([^\"']+)", page.text)
    assert len(assets) == 3
    for asset in assets:
        if not asset.startswith("data:"):
            assert client.get(asset).status_code == 200, asset
