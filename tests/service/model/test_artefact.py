"""An artefact is refused unless every check passes, and the message names the rule that failed."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import onnx
import orjson
import pytest

from service.model.artefact import ArtefactError, GoldenPairs, Metadata, WorkingPoint, load_artefact, parse_artefact
from service.model.reference import Histogram, Reference
from tests.artefacts import N_FEATURES, feature_names, metadata, model, model_described, with_metadata, write_artefact

POINT, SCALER = metadata().working_points[0], metadata().scaler
replace = msgspec.structs.replace
REQUIRED = {field.name for field in msgspec.structs.fields(Metadata) if field.required}
HISTOGRAM = Histogram(-1.0, 4.0, [1, 5, 0, 2, 2])
REFERENCE = Reference(10, "d" * 64, [HISTOGRAM] * N_FEATURES, HISTOGRAM, 7.5)
ROOT = Path(__file__).parents[3]


def refusal(built: onnx.ModelProto) -> str:
    """Return the message with which the model is refused."""
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
    assert set(props) == REQUIRED
    assert Metadata.from_props(props) == metadata()
    point = replace(POINT, name="1kHz", rate_hz=1e3, input_rate_hz=1e5, prescale=10)
    whole = replace(metadata(), reference=REFERENCE, working_points=[POINT, point])
    assert set(whole.to_props()) == {*REQUIRED, "reference"}
    assert Metadata.from_props(whole.to_props()) == whole
    assert parse_artefact(model_described(whole.to_props()).SerializeToString()).metadata == whole


def test_a_score_is_accepted_above_the_threshold_only() -> None:
    """A working point compares in float64, where float32(0.1) is above 0.1, and equality is no acceptance."""
    point = WorkingPoint("half", 0.5, 0.1, 0.0, 1, "")
    scores = np.array([0.1, 0.0999, 0.2], np.float32)
    assert point.accepts(scores).tolist() == [True, False, True]
    assert replace(point, threshold=0.5).accepts(np.array([0.5], np.float32)).tolist() == [False]


def test_what_is_no_model_is_refused_by_name(tmp_path: Path, subtests: pytest.Subtests) -> None:
    """A path without a readable file, and a file of another kind, are refused with the name and the expectation."""
    for name in ("absent.onnx", ".", "a\0b"):
        with (
            subtests.test(repr(name)),
            pytest.raises(ArtefactError, match=r"cannot read the artefact .*give the path of an exported \.onnx file"),
        ):
            load_artefact(f"{tmp_path}/{name}")
    path = tmp_path / "other.onnx"
    for content in (b"", b"no model", b"\xff" * 100, b"PK\x03\x04"):
        path.write_bytes(content)
        with (
            subtests.test(repr(content)),
            pytest.raises(ArtefactError, match=r"other\.onnx' is not a usable artefact: format: found .*expected"),
        ):
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
    assert all(name in message for name in REQUIRED)
    assert "reference" not in message  # files of earlier versions have none
    props = metadata().to_props()
    del props["golden"], props["feature_units"]
    assert "none named feature_units, golden" in refusal(model_described(props))


def test_another_schema_version_is_refused() -> None:
    """A file of a later schema is refused by its version, whatever keys it has."""
    assert "found 2, expected 1" in refusal(with_metadata(schema_version=2))
    assert "found 2, expected 1" in refusal(model_described({"schema_version": "2"}))


WRONG_TYPES = [
    ("golden", "{", "truncated"),
    ("golden", '{"features": [["1"]], "anomaly_scores": [1]}', "Expected `float`, got `str`"),
    ("feature_names", "[1]", "Expected `str`, got `int`"),
    ("feature_names", "[]", "found '[]': Expected `array` of length >= 1; export the model again"),
    ("working_points", '[{"name": "a"}]', "missing required field"),
    ("model_name", "[" * 10_000, "metadata key 'model_name'"),
    *(
        ("working_points", metadata().to_props()["working_points"].replace("2.0", threshold), "metadata key")
        for threshold in ("null", "1e999", "NaN")
    ),
]


def test_metadata_of_a_wrong_type_is_refused(subtests: pytest.Subtests) -> None:
    """A metadata entry that is not what its field holds is refused with the key and the reason."""
    for key, value, reason in WRONG_TYPES:
        with subtests.test(f"{key}: {value[:50]}"):
            message = refusal(model_described({**metadata().to_props(), key: value}))
            assert f"metadata key {key!r}" in message
            assert reason in message


def wrong_metadata() -> Iterator[tuple[onnx.ModelProto, str]]:
    """Build models whose metadata contradict themselves, the graph or a limit, each with a part of the message."""
    for name in ("", "two words", "modèle", "a\r\nSet-Cookie: b", "x" * 101):  # no header may hold it
        yield with_metadata(model_name=name), f"model name: found {name!r}"
    yield with_metadata(feature_units=["GeV"]), "feature units: found 1, expected 5"
    three = feature_names(3)
    found = "found features: float32 (batch, 5), expected features: float32 (batch, 3)"
    yield with_metadata(feature_names=three, feature_units=three), found
    yield with_metadata(scaler=replace(SCALER, mean=[0.0])), "scaler means: found 1, expected 5"
    yield with_metadata(scaler=replace(SCALER, scale=[1.0] * 6)), "scaler scales: found 6, expected 5"
    yield with_metadata(working_points=[POINT, POINT]), "more than one named 'loose'"
    for golden, found in (
        (GoldenPairs([], []), "Expected `array` of length >= 1 - at `$.features`"),
        (GoldenPairs([[0.0] * N_FEATURES], []), "golden scores: found 0, expected 1"),
        (GoldenPairs([[0.0] * 4], [1.0]), "features of golden pair 0: found 4, expected 5"),
        (GoldenPairs([[0.0] * 4 + [1e39]], [1.0]), "`float` <= 3.4028234663852886e+38 - at `$.features[0][4]`"),
        (GoldenPairs([[0.0] * 5], [-1e39]), "`float` >= -3.4028234663852886e+38 - at `$.anomaly_scores[0]`"),
        (GoldenPairs([[0.0] * 5] * 10_001, [0.0] * 10_001), "length <= 10000 - at `$.features`"),
    ):
        yield with_metadata(golden=golden), found
    yield with_metadata(training={"notes": "x" * 5_000_000}), "metadata: found 5,0"
    many = [""] * 10_001
    yield with_metadata(feature_names=many, feature_units=many), "'feature_names'"
    yield with_metadata(feature_names=many, feature_units=many), "Expected `array` of length <= 10000"
    points = [replace(POINT, name=str(number)) for number in range(1001)]
    yield with_metadata(working_points=points), "Expected `array` of length <= 1000"
    unnamed = [POINT, replace(POINT, name="")]
    yield with_metadata(working_points=unnamed), "Expected `str` of length >= 1 - at `$[1].name`"
    for reference, found in (
        (replace(REFERENCE, features=[HISTOGRAM]), "reference histograms: found 1, expected 5"),
        (replace(REFERENCE, events=11), "events in the reference histogram 0: found 10, expected 11"),
        (replace(REFERENCE, anomaly_score=replace(HISTOGRAM, high=-1.0)), "histogram of the score: found -1.0 to -1.0"),
        (replace(REFERENCE, anomaly_score=replace(HISTOGRAM, counts=[10, 0])), "`array` of length >= 3"),
        (replace(REFERENCE, anomaly_score=replace(HISTOGRAM, counts=[12, 0, -2])), "`int` >= 0"),
        (replace(REFERENCE, floor=1e39), "`float` <= 3.5e+38"),
    ):
        yield with_metadata(reference=reference), found
    for point, found in (
        (replace(POINT, rate_hz=0.0), "`float` > 0.0"),
        (replace(POINT, prescale=0), "`int` >= 1"),
    ):
        yield with_metadata(working_points=[point]), found
    twice = model()
    twice.metadata_props.add(key="model_name", value='"other"')
    yield twice, "metadata keys: found two named 'model_name'"


def test_wrong_metadata_is_refused(subtests: pytest.Subtests) -> None:
    """Names, units, scaler, working points and golden pairs must agree with the graph, and be of limited length."""
    for built, found in wrong_metadata():
        with subtests.test(found):
            assert found in refusal(built)


@pytest.mark.parametrize("text", ["a\r\nSet-Cookie: b", 'x"} 1\nforged{a="', "\x1b[2J", "\0", "\u2028", "x" * 101])
def test_texts_must_be_short_and_printable(text: str) -> None:
    """No text for logs, metrics, tables or responses may break a line, control a terminal or be of any length."""
    names = [*feature_names(N_FEATURES - 1), text]
    for rule, built in {
        "model version": with_metadata(model_version=text),
        "code version": with_metadata(code_version=text),
        "data digest": with_metadata(data_sha256=text),
        "feature name": with_metadata(feature_names=names),
        "feature unit": with_metadata(feature_units=names),
        "scaler name": with_metadata(scaler=replace(SCALER, names=names)),
        "working point": with_metadata(working_points=[replace(POINT, name=text)]),
        "calibration digest": with_metadata(working_points=[replace(POINT, calibration_sha256=text)]),
    }.items():
        assert f"{rule}: found {text!r}, expected at most 100 printable characters" in refusal(built)


def test_texts_may_be_in_any_script() -> None:
    """Names in any script are fine where no header holds them."""
    point = replace(POINT, name="τ₂₁ large")
    built = with_metadata(working_points=[point], feature_units=["GeV/c²"] * N_FEATURES)
    assert parse_artefact(built.SerializeToString()).metadata.working_points == [point]


def test_training_facts_must_not_be_nested_deeply() -> None:
    """Facts that can be read at loading, but not written where the stack is deeper, are refused."""
    facts: dict[str, object] = {}
    for _ in range(40):
        facts = {"in": [facts]}
    expected = "training facts: found lists in lists, expected a depth of at most 32"
    assert expected in refusal(with_metadata(training=facts))
    fine = {"configuration": {"hidden": [64, 32], "none": None}}
    assert parse_artefact(with_metadata(training=fine).SerializeToString()).metadata.training == fine


def test_messages_are_short() -> None:
    """Text from a file is quoted in shortened form."""
    built = model()
    built.graph.output[0].name = "x" * 100_000
    assert len(refusal(built)) < 1000
    assert len(refusal(model_described({**metadata().to_props(), "x" * 100_000: "", "model_name": "[1"}))) < 1000


def test_the_standard_domain_has_two_spellings(tmp_path: Path) -> None:
    """The domain "ai.onnx" is the standard one too."""
    built = model()
    built.graph.node[0].domain = "ai.onnx"
    assert load_artefact(write_artefact(tmp_path / "m.onnx", built)).n_features == N_FEATURES


@pytest.mark.parametrize("path", ["exported/autoencoder.onnx", "exported/exposed/autoencoder.onnx", None])
def test_clients_decide_by_the_threshold_that_is_sent_as_the_service_does(path: str | None) -> None:
    """Scores at, just above and just below a threshold are decided alike, as float32, widened, and by their digits."""
    if path is None:
        spread = np.random.default_rng(0).normal(size=300) * 10.0 ** np.arange(-6, 6).repeat(25)
        rounded = spread.astype(np.float32).astype(float)
        thresholds = [*spread.tolist(), *rounded.tolist(), 0.0, 1e-46, 3.4028234663852886e38, 1e300]
    else:
        thresholds = [point.threshold for point in load_artefact(ROOT / path).metadata.working_points]
    for threshold in thresholds:
        point = WorkingPoint("any", 0.1, threshold, 0.0, 1, "")
        sent = point.sent_threshold
        assert sent == pytest.approx(threshold, rel=1e-6, abs=1e-44) or threshold == 1e300
        with np.errstate(over="ignore"):
            nearest = np.float32(threshold)
            around = [np.nextafter(nearest, np.float32(-np.inf)), nearest, np.nextafter(nearest, np.float32(np.inf))]
        scores = np.array([score for score in around if np.isfinite(score)], np.float32)
        accepted = point.accepts(scores).tolist()
        assert [float(orjson.dumps(score, option=orjson.OPT_SERIALIZE_NUMPY)) > sent for score in scores] == accepted
        assert [float(score) > sent for score in scores] == accepted
        with np.errstate(over="ignore"):
            assert (scores > np.float32(sent)).tolist() == accepted


def test_a_histogram_counts_every_value() -> None:
    """A value is counted in its bin, with the lower edge, or below or above all."""
    values = np.array([-5.0, -1.0, 0.5, 2.0 / 3.0, 3.9, 4.0, 4.1, 1e38], np.float32)
    np.testing.assert_allclose(HISTOGRAM.edges, [-1.0, 2.0 / 3.0, 7.0 / 3.0, 4.0])
    assert HISTOGRAM.count(values).tolist() == [1, 2, 1, 1, 3]
