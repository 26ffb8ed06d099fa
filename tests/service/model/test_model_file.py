"""Any file at the path of the model is refused, or reproduces its golden scores."""

import os
import resource
import socket
from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, TensorProto, helper

from service.model.artefact import ArtefactError, load_artefact, parse_artefact
from service.model.graph import FORMATS, MAX_FIELDS, OPSETS
from service.model.scorer import Scorer
from tests.artefacts import RTOL, externally_stored, model, model_described, oracle, sample_events
from tests.fuzz import hostile, model_file
from tests.service.model.broken import led_through

THROUGH = helper.make_node("Identity", ["features"], ["passed"])


def refused(built: onnx.ModelProto) -> str:
    """Give the message with which a graph is refused, by the checks or by the runtime."""
    with pytest.raises(ArtefactError) as caught:
        Scorer(parse_artefact(built.SerializeToString()))
    return str(caught.value)


@pytest.mark.process
@pytest.mark.parametrize("n_files", [60, pytest.param(300, marks=pytest.mark.slow)])
def test_wrong_files_are_refused_or_reproduce_their_golden_scores(n_files: int) -> None:
    """None of many damaged and forged files crashes, hangs or fills a process, or gives other golden scores."""
    verdicts = model_file.verify_all(model_file.make(7, number) for number in range(n_files))
    outcomes = Counter(verdict.outcome for _, verdict in verdicts)
    assert outcomes.total() == n_files
    assert outcomes[model_file.REFUSED] > n_files / 2


@pytest.mark.parametrize("kind", ["flip_bit", "swap_bytes", "truncate", "change_weight", "swap_initialisers"])
def test_a_sealed_file_is_refused_for_one_changed_bit(kind: str) -> None:
    """Of a file that export wrote no damaged copy is accepted, where golden pairs let small changes of weights pass."""
    for number in range(40):
        case = model_file.make(3, model_file.SEALED + number * len(model_file.bases()), kind)
        with pytest.raises(ArtefactError, match=r"seal of the file|format"):
            parse_artefact(case.file)


def test_a_seal_must_be_a_digest() -> None:
    """A seal that is no digest is refused, also one that is found all over the file."""
    for seal in ("", '""', '"0"', "null", '"' + "F" * 64 + '"'):
        with pytest.raises(ArtefactError, match=r"seal of the file: found .*, expected a SHA-256 digest"):
            parse_artefact(model_described({**_props(), "content_sha256": seal}).SerializeToString())
    with pytest.raises(ArtefactError, match=r"seal of the file: found .*, its digest when exported; it is damaged"):
        parse_artefact(model_described({**_props(), "content_sha256": '"' + "a" * 64 + '"'}).SerializeToString())


@pytest.mark.parametrize("place", ["pipe", "folder", "socket", "/dev/zero", "/dev/tty"])
def test_other_kinds_of_files_are_refused_at_once(tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe without a writer, an endless device, a folder and a socket are refused without waiting."""
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    os.mkfifo("pipe")
    Path("folder").mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        with pytest.raises(ArtefactError, match=r"cannot read the artefact .*give the path of an exported \.onnx file"):
            load_artefact(place)


def test_a_file_over_the_limit_is_refused_unread(tmp_path: Path) -> None:
    """A file larger than allowed is refused by its size: a terabyte of nothing costs no memory and no time."""
    path = tmp_path / "large.onnx"
    with path.open("wb") as file:
        file.truncate(2**40)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ArtefactError, match="it has 1,099,511,627,776 bytes, expected at most 268,435,456"):
        load_artefact(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


def test_the_limit_is_the_largest_size_allowed(model_path: Path) -> None:
    """A file of exactly the limit loads; one byte less of limit refuses it."""
    size = model_path.stat().st_size
    assert load_artefact(model_path, max_bytes=size).n_features
    with pytest.raises(ArtefactError, match=f"expected at most {size - 1:,}"):
        load_artefact(model_path, max_bytes=size - 1)


def test_a_configured_digest_allows_one_file(model_path: Path, tmp_path: Path) -> None:
    """The file of the digest loads; any other, good as it may be, is refused with both digests."""
    artefact = load_artefact(model_path)
    assert load_artefact(model_path, sha256=artefact.sha256) == artefact
    other = tmp_path / "other.onnx"
    other.write_bytes(model_described({**_props(), "code_version": '"0.1.1"'}).SerializeToString())
    found = load_artefact(other).sha256
    with pytest.raises(ArtefactError, match=f"SHA-256 of the file: found {found}, expected {artefact.sha256}"):
        load_artefact(other, sha256=artefact.sha256)


def test_a_file_that_is_also_of_another_format_is_run_as_it_was_checked() -> None:
    """Bytes that the runtime would guess to be of its own format, which nothing here checks, are run as ONNX."""
    file = model().SerializeToString()
    both = b"\xa2\x06\x08-ORTM..." + file  # a field that no version of ONNX has
    assert both[4:8] == b"ORTM"
    events = sample_events(20)
    np.testing.assert_allclose(Scorer(parse_artefact(both)).score(events), oracle(events), rtol=RTOL)


def test_the_runtime_has_every_version_that_is_allowed(subtests: pytest.Subtests) -> None:
    """A graph of the oldest, the newest and all versions between loads and scores."""
    for version, form in product(OPSETS, (FORMATS[0], FORMATS[-1])):
        with subtests.test(f"operator set {version}, format {form}"):
            built = model()
            built.ir_version = form
            built.opset_import[0].version = version
            if version < 18:  # before, the axes were an attribute
                del built.graph.node[3].input[1]
                built.graph.node[3].attribute.append(helper.make_attribute("axes", [1]))
            assert Scorer(parse_artefact(built.SerializeToString())).score(sample_events(3)).shape == (3,)


def test_other_versions_are_refused() -> None:
    """No version of the operators, two, one too old or too new, and a format of the future are refused."""
    for versions in ([], [20, 20], [20, 21], [OPSETS[0] - 1], [OPSETS[-1] + 1], [0], [-1], [2**63 - 1]):
        built = model()
        del built.opset_import[:]
        built.opset_import.extend(helper.make_opsetid("", version) for version in versions)
        shown = ", ".join(map(str, versions)) or "none"
        assert f"operator set: found {shown}, expected one version from 7 to 26" in refused(built)
    built = model()
    built.opset_import.append(helper.make_opsetid("ai.onnx", 20))
    assert "operator set: found 20, 20" in refused(built)
    for version in (-1, FORMATS[0] - 1, FORMATS[-1] + 1, 2**62):
        built = model()
        built.ir_version = version
        assert f"version of the format: found {version}, expected 4 to 13" in refused(built)


def test_random_and_unknown_operators_are_refused() -> None:
    """The scores of a random operator could not be reproduced, and an unknown one has none."""
    noise = helper.make_node("RandomNormalLike", ["features"], ["noise"], name="n", scale=1e-9)
    built = led_through(noise, helper.make_node("Add", ["features", "noise"], ["passed"]))
    assert "operator 'RandomNormalLike' of node 'n': found random numbers, expected arithmetic" in refused(built)
    unknown = led_through(helper.make_node("Nonsense", ["features"], ["passed"]))
    assert "found no operator of this name in operator set 20" in refused(unknown)


def test_graphs_that_crash_the_runtime_are_refused() -> None:
    """Attributes and constants on which the runtime aborts are refused before it reads them."""
    for node, found in (
        (
            helper.make_node("GatherND", ["features", "sizes"], ["x"], batch_dims=2**63 - 1),
            "batch_dims beyond 1048576",
        ),
        (helper.make_node("GatherND", ["features", "sizes"], ["x"], batch_dims=-2), "batch_dims below 0"),
        (helper.make_node("DepthToSpace", ["features"], ["x"], blocksize=2**62), "blocksize beyond 1048576"),
        (helper.make_node("Split", ["features"], ["x"], num_outputs=10**9), "num_outputs beyond 1048576"),
        (helper.make_node("ReduceSum", ["features"], ["x"], axes=[-(2**63)]), "axes beyond 1048576"),
        (helper.make_node("OneHot", ["sizes", "nothing", "pair"], ["x"]), "a depth that is not one number"),
        (helper.make_node("OneHot", ["sizes"], ["x"]), "ONNX Runtime cannot load"),
    ):
        built = led_through(
            node, THROUGH, sizes=np.array([1]), nothing=np.zeros(0, np.int64), pair=np.ones(2, np.int64)
        )
        assert found in refused(built)
    number = helper.make_node("OneHot", ["sizes", "sizes", "pair"], ["x"])
    largest = helper.make_node("Constant", [], ["y"], value_int=2**63 - 1)
    built = led_through(number, largest, THROUGH, sizes=np.array([1]), pair=np.ones(2, np.int64))
    Scorer(parse_artefact(built.SerializeToString()))


def test_graphs_in_graphs_are_refused() -> None:
    """An operator with a graph of its own can run for ever, and is refused however it is named."""
    body = helper.make_graph([helper.make_node("Identity", ["features"], ["x"])], "body", [], [])
    for operator in ("Loop", "If", "Scan", "Identity"):
        node = helper.make_node(operator, ["features"], ["passed"], body=body)
        assert f"operator '{operator}' of node '': found a graph inside" in refused(led_through(node))
    several = helper.make_node("Identity", ["features"], ["passed"])
    several.attribute.append(AttributeProto(name="bodies", type=AttributeProto.GRAPHS, graphs=[body]))
    assert "found a graph inside" in refused(led_through(several))


def test_functions_are_refused() -> None:
    """Local functions are refused: each that calls another twice doubles the graph."""
    built = model()
    imports = [helper.make_opsetid("", 20)]
    node = helper.make_node("Identity", ["x"], ["y"])
    built.functions.append(helper.make_function("", "Twice", ["x"], ["y"], [node], imports))
    assert "local functions: found 'Twice', expected none" in refused(built)


def test_text_and_sequences_are_refused() -> None:
    """Operators on text and sequences are refused: they allocate outside the memory limit of the runtime."""
    text = onnx.TensorProto(name="text", data_type=TensorProto.STRING, dims=[1], string_data=[b"a"])
    for node, found in (
        (helper.make_node("Cast", ["features"], ["x"], to=TensorProto.STRING), "found text"),
        (helper.make_node("Constant", [], ["x"], value_string="a"), "found text"),
        (helper.make_node("Constant", [], ["x"], value_strings=["a"]), "found text"),
        (helper.make_node("Constant", [], ["x"], value=text), "tensor type: found text in tensor 'text'"),
        (helper.make_node("SequenceConstruct", ["features"], ["x"]), "found sequences, or text"),
        (helper.make_node("StringConcat", ["features", "features"], ["x"]), "found sequences, or text"),
    ):
        assert found in refused(led_through(node, THROUGH))


def test_sparse_tensors_are_refused() -> None:
    """A tensor whose size takes a few bytes in the file is refused, as an initialiser and as an attribute."""
    values = helper.make_tensor("few", TensorProto.FLOAT, [1], [1.0])
    places = helper.make_tensor("places", TensorProto.INT64, [1], [0])
    sparse = helper.make_sparse_tensor(values, places, [2**40])
    built = model()
    built.graph.sparse_initializer.append(sparse)
    assert "tensor storage: found sparse tensor 'few', expected dense tensors" in refused(built)
    node = helper.make_node("Constant", [], ["x"], sparse_value=sparse)
    assert "tensor storage: found sparse tensor 'few'" in refused(led_through(node, THROUGH))
    built = model()
    built.graph.sparse_initializer.add().values.CopyFrom(externally_stored())
    assert "tensor storage: found sparse tensor 'elsewhere'" in refused(built)


@pytest.mark.parametrize("size", [10**9, 10**13, 2**62])
def test_a_graph_that_unfolds_is_refused(size: int) -> None:
    """A graph of a few hundred bytes that asks for gigabytes gets an error, and no process is killed."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    filled = led_through(
        helper.make_node("ConstantOfShape", ["size"], ["large"]),
        helper.make_node("ReduceMax", ["large"], ["zero"], keepdims=0),
        helper.make_node("Add", ["features", "zero"], ["passed"]),
        size=np.array([size]),
    )
    expanded = led_through(
        helper.make_node("Expand", ["features", "size"], ["large"]),
        helper.make_node("ReduceMax", ["large", "axis"], ["passed"], keepdims=0),
        size=np.array([size, 1, 1]),
        axis=np.array([0]),
    )
    for built in (filled, expanded):
        assert "ONNX Runtime cannot" in refused(built)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_a_graph_is_verified_in_the_largest_call() -> None:
    """A graph that has memory for a few events and not for a whole chunk is refused before a client meets it."""
    built = led_through(  # 16 events take 82 MB, 4096 take 21 GB
        helper.make_node("Expand", ["features", "size"], ["large"]),
        helper.make_node("ReduceMax", ["large", "axis"], ["passed"], keepdims=0),
        size=np.array([2**18, 1, 1]),
        axis=np.array([0]),
    )
    assert "ONNX Runtime cannot run" in refused(built)


def test_more_fields_than_any_graph_has_are_refused() -> None:
    """Millions of empty operators or small integers, which take many times their bytes in memory, are refused."""
    for content in (b"\x0a\x00" * (MAX_FIELDS + 1), b"\x2a\xc4\x93\x7a\x3a\xc0\x93\x7a" + b"\1" * 2_001_344):
        with pytest.raises(ArtefactError, match="size of the graph: found more than 250,000 fields"):
            parse_artefact(model().SerializeToString() + hostile.graph_field(content))


def test_deeply_nested_graphs_are_refused() -> None:
    """Graphs in graphs, thousands deep, exhaust no stack."""
    with pytest.raises(ArtefactError, match="format: found bytes that are no ONNX model"):
        parse_artefact(model().SerializeToString() + hostile.nested_graphs(5000))


def test_text_that_is_not_utf_8_is_refused() -> None:
    """A name that is not UTF-8 passes the parser, and is refused."""
    file = model().SerializeToString()
    assert file.count(b"centred") == 2
    with pytest.raises(ArtefactError, match="format: found text that is not UTF-8"):
        parse_artefact(file.replace(b"centred", b"\xff\xfe\xfdtred"))


def _props() -> dict[str, str]:
    return {prop.key: prop.value for prop in model().metadata_props}
