"""An artefact is refused unless every check passes, and the message names the rule that failed."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from service.model.artefact import ArtefactError, GoldenPairs, Metadata, WorkingPoint, load_artefact, parse_artefact
from tests.artefacts import (
    N_FEATURES,
    externally_stored,
    feature_names,
    metadata,
    model,
    model_described,
    with_metadata,
    write_artefact,
)

Breaker = Callable[[onnx.ModelProto], None]


def refusal(built: onnx.ModelProto) -> str:
    """Give the message with which the model is refused."""
    with pytest.raises(ArtefactError) as caught:
        parse_artefact(built.SerializeToString())
    return str(caught.value)


def test_a_good_file_loads_with_its_metadata_and_identity(model_path: Path) -> None:
    """The artefact holds the file's bytes, its hash and its metadata, and its identity comes from them."""
    artefact = load_artefact(model_path)
    assert artefact.graph == model_path.read_bytes()
    assert artefact.sha256 == hashlib.sha256(artefact.graph).hexdigest()
    assert artefact.metadata == metadata()
    assert artefact.identity == f"sphere@{artefact.sha256[:12]}"
    assert artefact.n_features == N_FEATURES


def test_metadata_round_trips_through_the_file() -> None:
    """Every field is one JSON entry, and reading the entries gives the same metadata to the last digit."""
    props = metadata().to_props()
    assert set(props) == set(Metadata.__struct_fields__)
    assert Metadata.from_props(props) == metadata()


def test_a_score_is_accepted_above_the_threshold_only() -> None:
    """A working point compares in float64, where float32(0.1) is above 0.1, and equality is no acceptance."""
    point = WorkingPoint("half", 0.5, 0.1, 0.0, 1, "")
    scores = np.array([0.1, 0.0999, 0.2], np.float32)
    assert point.accepts(scores).tolist() == [True, False, True]
    exact = msgspec.structs.replace(point, threshold=0.5)
    assert exact.accepts(np.array([0.5], np.float32)).tolist() == [False]


@pytest.mark.parametrize("name", ["absent.onnx", ".", "a\0b"])
def test_an_unreadable_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    """A path without a readable file is refused with its name and what to give instead."""
    with pytest.raises(ArtefactError, match=r"cannot read the artefact .*give the path of an exported \.onnx file"):
        load_artefact(f"{tmp_path}/{name}")


@pytest.mark.parametrize("content", [b"", b"no model", b"\xff" * 100, b"PK\x03\x04"])
def test_bytes_that_are_no_model_are_refused(tmp_path: Path, content: bytes) -> None:
    """A file of another kind is refused by name, as no ONNX model."""
    path = tmp_path / "other.onnx"
    path.write_bytes(content)
    with pytest.raises(ArtefactError, match=r"other\.onnx' is not a usable artefact: format: found .*expected"):
        load_artefact(path)


def test_a_truncated_file_is_refused(model_path: Path) -> None:
    """No prefix of a good file is good: an interrupted copy is not served."""
    whole = model_path.read_bytes()
    for length in range(0, len(whole), 7):
        with pytest.raises(ArtefactError):
            parse_artefact(whole[:length])


def test_missing_metadata_is_listed() -> None:
    """A graph without metadata is refused with the names of all missing keys, one without some with theirs."""
    message = refusal(model_described({}))
    assert all(name in message for name in Metadata.__struct_fields__)
    props = metadata().to_props()
    del props["golden"], props["feature_units"]
    assert "none named feature_units, golden" in refusal(model_described(props))


def test_another_schema_version_is_refused() -> None:
    """A file of a later schema is refused by its version, whatever keys it has."""
    assert "found 2, expected 1" in refusal(with_metadata(schema_version=2))
    assert "found 2, expected 1" in refusal(model_described({"schema_version": "2"}))


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("golden", "{", "truncated"),
        ("golden", '{"features": [["1"]], "anomaly_scores": [1]}', "Expected `float`, got `str`"),
        ("feature_names", "[1]", "Expected `str`, got `int`"),
        ("working_points", '[{"name": "a"}]', "missing required field"),
        ("model_name", "[" * 10_000, "metadata key 'model_name'"),
    ],
)
def test_metadata_of_a_wrong_type_is_refused(key: str, value: str, reason: str) -> None:
    """A metadata entry that is not what its field holds is refused with the key and the reason."""
    message = refusal(model_described({**metadata().to_props(), key: value}))
    assert f"metadata key {key!r}" in message
    assert reason in message


@pytest.mark.parametrize("name", ["", "two words", "modèle", "a\r\nSet-Cookie: b", "x" * 101])
def test_the_model_name_must_fit_a_header(name: str) -> None:
    """A name that no header may hold is refused at loading, rather than failing every response."""
    assert f"model name: found {name!r}" in refusal(with_metadata(model_name=name))


def test_feature_lists_of_different_lengths_are_refused() -> None:
    """Names, units and the graph's input agree on the number of features, and the scaler with itself."""
    assert "feature units: found 1, expected 5" in refusal(with_metadata(feature_units=["GeV"]))
    message = refusal(with_metadata(feature_names=[], feature_units=[]))
    assert (
        "metadata key 'feature_names': found '[]': Expected `array` of length >= 1; export the model again" in message
    )
    names = feature_names(3)
    message = refusal(with_metadata(feature_names=names, feature_units=names))
    assert "found features: float32 (batch, 5), expected features: float32 (batch, 3)" in message
    scaler = msgspec.structs.replace(metadata().scaler, mean=[0.0])
    assert "scaler means: found 1, expected 5" in refusal(with_metadata(scaler=scaler))
    scaler = msgspec.structs.replace(metadata().scaler, scale=[1.0] * 6)
    assert "scaler scales: found 6, expected 5" in refusal(with_metadata(scaler=scaler))


@pytest.mark.parametrize(
    ("golden", "found"),
    [
        (GoldenPairs([], []), "Expected `array` of length >= 1 - at `$.features`"),
        (GoldenPairs([[0.0] * N_FEATURES], []), "golden scores: found 0, expected 1"),
        (GoldenPairs([[0.0] * 4], [1.0]), "features of golden pair 0: found 4, expected 5"),
    ],
)
def test_golden_pairs_must_be_present_and_complete(golden: GoldenPairs, found: str) -> None:
    """A file without golden pairs, or with misshapen ones, cannot prove its scores and is refused."""
    assert found in refusal(with_metadata(golden=golden))


def test_working_points_must_have_different_names() -> None:
    """Two working points of one name are refused: a request could mean either."""
    point = metadata().working_points[0]
    assert "more than one named 'loose'" in refusal(with_metadata(working_points=[point, point]))


def test_thresholds_must_be_finite_numbers() -> None:
    """A threshold that is not a finite number is refused, however it is written."""
    for text in ("null", "1e999", "NaN"):
        props = metadata().to_props()
        props["working_points"] = props["working_points"].replace("2.0", text)
        assert "working_points" in refusal(model_described(props))


@pytest.mark.parametrize("text", ["a\r\nSet-Cookie: b", 'x"} 1\nforged{a="', "\x1b[2J", "\0", "\u2028", "x" * 101])
def test_texts_must_be_short_and_printable(text: str) -> None:
    """No text for logs, metrics, tables or responses may break a line, control a terminal or be of any length."""
    point, scaler = metadata().working_points[0], metadata().scaler
    names = [*feature_names(N_FEATURES - 1), text]
    for rule, built in {
        "model version": with_metadata(model_version=text),
        "code version": with_metadata(code_version=text),
        "data digest": with_metadata(data_sha256=text),
        "feature name": with_metadata(feature_names=names),
        "feature unit": with_metadata(feature_units=names),
        "scaler name": with_metadata(scaler=msgspec.structs.replace(scaler, names=names)),
        "working point": with_metadata(working_points=[msgspec.structs.replace(point, name=text)]),
        "calibration digest": with_metadata(working_points=[msgspec.structs.replace(point, calibration_sha256=text)]),
    }.items():
        assert f"{rule}: found {text!r}, expected at most 100 printable characters" in refusal(built)


def test_texts_may_be_in_any_script() -> None:
    """Names in any script are fine where no header holds them."""
    point = msgspec.structs.replace(metadata().working_points[0], name="τ₂₁ large")
    built = with_metadata(working_points=[point], feature_units=["GeV/c²"] * N_FEATURES)
    assert parse_artefact(built.SerializeToString()).metadata.working_points == [point]


def test_the_metadata_is_limited() -> None:
    """More metadata, features, golden pairs or working points than any model has are refused before they are used."""
    assert "metadata: found 5,0" in refusal(with_metadata(training={"notes": "x" * 5_000_000}))
    many = [""] * 10_001
    message = refusal(with_metadata(feature_names=many, feature_units=many))
    assert "metadata key 'feature_names'" in message
    assert "Expected `array` of length <= 10000" in message
    pairs = GoldenPairs([[0.0] * N_FEATURES] * 10_001, [0.0] * 10_001)
    assert "Expected `array` of length <= 10000 - at `$.features`" in refusal(with_metadata(golden=pairs))
    point = metadata().working_points[0]
    points = [msgspec.structs.replace(point, name=str(number)) for number in range(1001)]
    message = refusal(with_metadata(working_points=points))
    assert "metadata key 'working_points'" in message
    assert "Expected `array` of length <= 1000" in message
    unnamed = msgspec.structs.replace(point, name="")
    message = refusal(with_metadata(working_points=[point, unnamed]))
    assert "Expected `str` of length >= 1 - at `$[1].name`" in message


def test_training_facts_must_not_be_nested_deeply() -> None:
    """Facts that can be read at loading, but not written where the stack is deeper, are refused."""
    facts: dict[str, object] = {}
    for _ in range(40):
        facts = {"in": [facts]}
    assert "training facts: found lists in lists, expected a depth of at most 32" in refusal(
        with_metadata(training=facts)
    )
    fine = {"configuration": {"hidden": [64, 32], "none": None}}
    assert parse_artefact(with_metadata(training=fine).SerializeToString()).metadata.training == fine


def test_golden_numbers_must_be_float32() -> None:
    """A golden feature or score beyond float32 is refused by its place, rather than scored as an infinity."""
    for golden, reason in (
        (
            GoldenPairs([[0.0] * 4 + [1e39]], [1.0]),
            "Expected `float` <= 3.4028234663852886e+38 - at `$.features[0][4]`",
        ),
        (GoldenPairs([[0.0] * 5], [-1e39]), "Expected `float` >= -3.4028234663852886e+38 - at `$.anomaly_scores[0]`"),
    ):
        assert reason in refusal(with_metadata(golden=golden))


def test_metadata_keys_must_differ() -> None:
    """Two entries with one key are refused: either could be meant."""
    built = model()
    built.metadata_props.add(key="model_name", value='"other"')
    assert "metadata keys: found two named 'model_name'" in refusal(built)


def test_messages_are_short() -> None:
    """Text from a file is quoted in shortened form."""
    built = model()
    built.graph.output[0].name = "x" * 100_000
    assert len(refusal(built)) < 1000
    assert len(refusal(model_described({**metadata().to_props(), "x" * 100_000: "", "model_name": "[1"}))) < 1000


def test_the_signature_is_exact() -> None:
    """Another name, type, rank, frozen batch or additional input or output is refused with what was found."""
    built = model()
    built.graph.output[0].name = "score"
    assert "graph output: found score: float32 (batch), expected anomaly_score" in refusal(built)

    built = model()
    built.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    assert "graph input: found features: float64 (batch, 5)" in refusal(built)

    built = model()
    built.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    assert "graph input: found features: float32 (2, 5)" in refusal(built)

    built = model()
    built.graph.output[0].type.tensor_type.shape.dim.add(dim_value=1)
    assert "graph output: found anomaly_score: float32 (batch, 1)" in refusal(built)

    built = model()
    built.graph.input.append(helper.make_tensor_value_info("weights", TensorProto.FLOAT, ["batch"]))
    assert "features: float32 (batch, 5); weights: float32 (batch)" in refusal(built)

    built = model()
    del built.graph.output[:]
    assert "graph output: found none" in refusal(built)

    built = model()
    built.graph.input[0].type.sequence_type.elem_type.tensor_type.elem_type = TensorProto.FLOAT
    assert "not a tensor" in refusal(built)


def _external_initialiser(built: onnx.ModelProto) -> None:
    built.graph.initializer.append(externally_stored())


def _external_attribute(built: onnx.ModelProto) -> None:
    built.graph.node.append(helper.make_node("Constant", [], ["c"], value=externally_stored()))


def _external_attribute_list(built: onnx.ModelProto) -> None:
    built.graph.node[0].attribute.append(helper.make_attribute("many", [externally_stored()]))


def _external_in_subgraph(built: onnx.ModelProto) -> None:
    branch = helper.make_graph([], "branch", [], [], [externally_stored()])
    built.graph.node.append(helper.make_node("If", ["c"], ["d"], then_branch=branch, else_branch=branch))


def _external_in_function(built: onnx.ModelProto) -> None:
    node = helper.make_node("Constant", [], ["c"], value=externally_stored())
    built.functions.append(helper.make_function("", "F", [], ["c"], [node], [helper.make_opsetid("", 20)]))


@pytest.mark.parametrize(
    "breaker",
    [
        _external_initialiser,
        _external_attribute,
        _external_attribute_list,
        _external_in_subgraph,
        _external_in_function,
    ],
)
def test_external_data_is_refused_anywhere_in_the_model(breaker: Breaker) -> None:
    """A tensor outside the file is refused in any place: reading it could read any file of the machine."""
    built = model()
    breaker(built)
    assert "tensor storage: found tensor 'elsewhere' in external data" in refusal(built)


def _foreign_node(built: onnx.ModelProto) -> None:
    built.graph.node[0].domain = "com.example"


def _foreign_opset(built: onnx.ModelProto) -> None:
    built.opset_import.append(helper.make_opsetid("com.example", 1))


def _foreign_node_in_subgraph(built: onnx.ModelProto) -> None:
    branch = helper.make_graph([helper.make_node("Op", [], ["x"], domain="com.example")], "branch", [], [])
    built.graph.node.append(helper.make_node("If", ["c"], ["d"], then_branch=branch, else_branch=branch))


def _foreign_function(built: onnx.ModelProto) -> None:
    built.functions.append(helper.make_function("com.example", "F", [], [], [], [helper.make_opsetid("", 20)]))


@pytest.mark.parametrize("breaker", [_foreign_node, _foreign_opset, _foreign_node_in_subgraph, _foreign_function])
def test_custom_operator_domains_are_refused_anywhere_in_the_model(breaker: Breaker) -> None:
    """A domain other than the standard's is refused in any place."""
    built = model()
    breaker(built)
    assert "operator domain: found 'com.example', expected the standard one" in refusal(built)


def test_the_standard_domain_has_two_spellings(tmp_path: Path) -> None:
    """The domain "ai.onnx" is the standard one too."""
    built = model()
    built.graph.node[0].domain = "ai.onnx"
    assert load_artefact(write_artefact(tmp_path / "m.onnx", built)).n_features == N_FEATURES
