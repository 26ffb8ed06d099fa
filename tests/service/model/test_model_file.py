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
from onnx import helper

from service import SHIPPED_MODEL
from service.model.artefact import ArtefactError, load_artefact, parse_artefact
from service.model.graph import FORMATS, MAX_FIELDS, OPSETS
from service.model.scorer import Scorer
from tests.artefacts import RTOL, metadata, model, model_described, oracle, sample_events
from tests.fuzz import hostile, model_file
from tests.service.model.broken import THROUGH, WRONG_GRAPHS, changed, led_through


def refused(built: onnx.ModelProto) -> str:
    """Return the message with which a graph is refused, by the checks or by the runtime."""
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


def test_a_damaged_seal_does_not_make_an_older_file_of_it() -> None:
    """No single bit of the seal, its key included, can be changed so that the file passes for an unsealed one."""
    file = SHIPPED_MODEL.read_bytes()
    start = file.rindex(b"content_sha256") - 8
    for place in range(start, len(file)):
        for bit in range(8):
            damaged = bytearray(file)
            damaged[place] ^= 1 << bit
            with pytest.raises(ArtefactError):
                parse_artefact(bytes(damaged))


def test_a_seal_must_be_the_digest_of_the_file() -> None:
    """A seal that is no digest is refused, also one that is found all over the file, and so is that of another file."""
    no_digests = ("", '""', '"0"', "null", f'"{"F" * 64}"')
    other = (f'"{"a" * 64}"', "its digest when exported; it is damaged")
    for seal, expected in (*((seal, "a SHA-256 digest") for seal in no_digests), other):
        built = model_described({**metadata().to_props(), "content_sha256": seal})
        with pytest.raises(ArtefactError, match=f"seal of the file: found .*, (expected )?{expected}"):
            parse_artefact(built.SerializeToString())


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
    other.write_bytes(model_described({**metadata().to_props(), "code_version": '"0.1.1"'}).SerializeToString())
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


@pytest.mark.parametrize("kind", WRONG_GRAPHS)
def test_wrong_graphs_are_refused(kind: str, subtests: pytest.Subtests) -> None:
    """What a graph must not have is refused with the rule, what was found and what was expected."""
    for number, (change, found) in enumerate(WRONG_GRAPHS[kind]):
        with subtests.test(f"{kind} {number}: {found}"):
            assert found in refused(changed(change))


def test_the_checks_of_attributes_let_others_pass() -> None:
    """A depth that is one number, and a large constant that is no size, are accepted."""
    depth = helper.make_node("OneHot", ["sizes", "sizes", "pair"], ["x"])
    largest = helper.make_node("Constant", [], ["y"], value_int=2**63 - 1)
    built = led_through(depth, largest, THROUGH, sizes=[1], pair=[1, 1])
    Scorer(parse_artefact(built.SerializeToString()))


def expanded(size: int) -> onnx.ModelProto:
    """Build a graph that copies its features so many times."""
    return led_through(
        helper.make_node("Expand", ["features", "size"], ["large"]),
        helper.make_node("ReduceMax", ["large", "axis"], ["passed"], keepdims=0),
        size=[size, 1, 1],
        axis=[0],
    )


@pytest.mark.parametrize("size", [10**9, 10**13, 2**62])
def test_a_graph_that_unfolds_is_refused(size: int) -> None:
    """A graph of a few hundred bytes that asks for gigabytes gets an error, and no process is killed."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    filled = led_through(
        helper.make_node("ConstantOfShape", ["size"], ["large"]),
        helper.make_node("ReduceMax", ["large"], ["zero"], keepdims=0),
        helper.make_node("Add", ["features", "zero"], ["passed"]),
        size=[size],
    )
    for built in (filled, expanded(size)):
        assert "ONNX Runtime cannot" in refused(built)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_a_graph_is_verified_in_the_largest_call() -> None:
    """A graph that has memory for a few events and not for a whole chunk is refused before a client meets it."""
    assert "ONNX Runtime cannot run" in refused(expanded(2**18))  # 16 events take 82 MB, 4096 take 21 GB


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
