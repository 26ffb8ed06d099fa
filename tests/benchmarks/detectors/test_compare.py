"""A comparison measures what the scores say, keeps the classes apart, and trains nothing twice."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.detectors.compare import code_digest, main
from benchmarks.detectors.detectors import KNOWN_DIRECTIONS, VIEWS, Exported, Knowledge, plan
from benchmarks.detectors.page import ABOUT, render
from benchmarks.detectors.references import PUBLIC_DETECTORS
from benchmarks.detectors.results import METRICS, Comparison
from benchmarks.detectors.samples import Files, read_files
from benchmarks.detectors.tilt import tilt
from service.model.artefact import load_artefact
from service.model.scorer import Scorer
from tests.artefacts import write_artefact
from tests.training import samples
from training.detectors.presets import PRESETS
from training.errors import EventsError, PartsError
from training.events.events import Events, read_events, write_events

SEEDS = 2
MODEL = Path("exported/autoencoder.onnx")


def write_files(folder: Path) -> list[str]:
    """Write a training sample, a test sample, one with a background of its own, and a signal alone: their paths."""
    files = {
        "train": Events(samples.background(1000, seed=1)),
        "test": samples.mixed(300, 120, seed=2),
        "elsewhere": samples.mixed(150, 40, seed=3),
        "alone": Events(samples.signal(60, seed=4), np.ones(60, np.int8)),
    }
    for name, events in files.items():
        write_events(folder / f"{name}.h5", events)
    return [str(folder / f"{name}.h5") for name in files]


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    """Compare once: the files, with the option that names the exposure, and the folder of results."""
    folder = tmp_path_factory.mktemp("compared")
    write_events(folder / "cocktail.h5", Events(samples.signal(200, seed=5), np.ones(200, np.int8)))
    arguments = [*write_files(folder), "--exposure", str(folder / "cocktail.h5")]
    assert main([*arguments, "--out", str(folder / "out"), "--seeds", str(SEEDS)]) == 0
    return arguments, folder / "out"


def lines(folder: Path) -> list[dict[str, Any]]:
    """Return the results in comparison.json."""
    found: list[dict[str, Any]] = json.loads((folder / "comparison.json").read_text(), parse_constant=pytest.fail)[
        "results"
    ]
    return found


def line(folder: Path, **wanted: str) -> dict[str, Any]:
    """Return the one result with these fields."""
    (found,) = (one for one in lines(folder) if all(one[field] == value for field, value in wanted.items()))
    return found


def section(page: str, knowledge: Knowledge) -> str:
    """Return what the page has under the heading of a class."""
    return page.split(f"## {knowledge}\n")[1].split("\n## ")[0]


def mahalanobis(background: NDArray[np.float32], events: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the squared distance of events (m, 14) from background (n, 14), with nothing but numpy: (m,)."""
    away = events - background.mean(axis=0, dtype=float)
    inverse = np.linalg.inv(np.cov(background.T.astype(float)))
    return np.array([one @ inverse @ one for one in away])


def counted_auc(background: NDArray[np.float64], signal: NDArray[np.float64]) -> float:
    """Return the fraction of pairs whose signal event scores higher."""
    return float((signal[:, None] > background).mean())


# What it says


@pytest.mark.slow
def test_figures_are_those_of_the_scores(compared: tuple[list[str], Path]) -> None:
    """The AUC of a detector that anyone can write in three lines is what counting pairs gives, on every sample."""
    (train, test, elsewhere, alone, *_), folder = compared
    background = read_events(train).features
    tested = read_events(test).background
    for sample, ordinary, signal in (
        ("test", tested, read_events(test).signal),
        ("elsewhere", read_events(elsewhere).background, read_events(elsewhere).signal),
        ("alone", tested, read_events(alone).signal),  # judged against the background of the first
    ):
        found = line(folder, detector="Gaussian mixture, 1 component (its default)", sees="raw", sample=sample)
        expected = counted_auc(*(mahalanobis(background, part.features) for part in (ordinary, signal)))
        assert found["figures"]["AUC"]["value"] == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
def test_every_detector_is_on_every_sample(compared: tuple[list[str], Path]) -> None:
    """Presets, public detectors on both views and the known directions have each figure on each sample."""
    _, folder = compared
    found = {(one["class"], one["detector"], one["sees"], one["sample"]) for one in lines(folder)}
    for sample in ("test", "elsewhere", "alone"):
        for name in PUBLIC_DETECTORS:
            for view in VIEWS:
                assert (Knowledge.BACKGROUND_ONLY, name, view, sample) in found
        for config in PRESETS.values():
            knowledge = Knowledge(config.model_class.capitalize())
            assert (knowledge, config.name, config.feature_map, sample) in found
        for name, (sees, _) in KNOWN_DIRECTIONS.items():
            assert (Knowledge.KNOWN_DIRECTION, name, sees, sample) in found
    assert all(list(one["figures"]) == list(METRICS) for one in lines(folder))


def test_what_learns_background_alone_has_a_line_with_the_tilt_and_one_without(tmp_path: Path) -> None:
    """Ours, and public detectors on the view of the shipped model: the prior makes the class, and nothing else."""
    train, test, *_ = map(Path, write_files(tmp_path))
    bare, tilted = set(), set()
    for one in plan(read_files(Files(train, None, (test,)))):
        if one.line.ours or one.line.view not in ("raw", "tau21", "tau32", "tau21, tau32"):
            name = one.line.name.removesuffix(" + tilt").removesuffix(" without tilt")
            name = "density" if name == "distilled" else name  # its twin without the tilt
            if one.line.knowledge is Knowledge.BACKGROUND_ONLY:
                assert not one.tilted
                bare.add(name)
            elif one.line.knowledge is Knowledge.STATED_PRIOR:
                assert one.tilted == one.line.name.endswith(" + tilt")
                tilted.add(name)
    assert bare == tilted
    assert {"density", "classic", "Mahalanobis", *PUBLIC_DETECTORS} <= bare


@pytest.mark.slow
def test_presets_that_learn_signals_need_some(compared: tuple[list[str], Path]) -> None:
    """Without exposure the presets that learn signals are left out, and those alone."""
    (train, test, *_), _ = compared
    planned = plan(read_files(Files(Path(train), None, (Path(test),))))
    assert {one.detector.title for one in planned if one.line.ours} & PRESETS.keys() == {
        name for name, config in PRESETS.items() if not config.exposed
    }


@pytest.mark.slow
def test_seeds_are_counted_where_they_matter(compared: tuple[list[str], Path]) -> None:
    """What draws numbers is trained once a seed and differs; what draws none is trained once and has no spread."""
    _, folder = compared
    drawn = line(folder, detector="isolation forest", sees="raw", sample="test")["figures"]["AUC"]
    fixed = line(folder, detector="ECOD", sees="raw", sample="test")["figures"]["AUC"]
    assert len(set(drawn["by_seed"])) == SEEDS
    assert drawn["value"] == pytest.approx(np.mean(drawn["by_seed"]))
    assert fixed["by_seed"] == [fixed["value"]]
    rows = re.findall(
        r"^\| (isolation forest|ECOD) \| raw \| [\d,]+ \| .*? \| (.*?) \|",
        (folder / "comparison.md").read_text(),
        re.MULTILINE,
    )
    for name, spread in rows:
        assert (spread == "-") == (name == "ECOD")
    assert len(rows) == 2 * 3


@pytest.mark.slow
def test_classes_are_never_in_one_table(compared: tuple[list[str], Path]) -> None:
    """Under the heading of a class stand its own detectors alone, and what the class means."""
    _, folder = compared
    page = (folder / "comparison.md").read_text()
    by_class = {
        knowledge: {one["detector"] for one in lines(folder) if one["class"] == knowledge} for knowledge in Knowledge
    }
    for knowledge, detectors in by_class.items():
        if not detectors:
            assert f"## {knowledge}\n" not in page
            continue
        text = section(page, knowledge)
        assert ABOUT[knowledge] in text
        named = {name.strip("*") for name in re.findall(r"^\| (?!detector|---)(.*?) \|", text, re.MULTILINE)}
        assert named == detectors
    assert not by_class[Knowledge.BACKGROUND_ONLY] & by_class[Knowledge.SUPERVISED]


@pytest.mark.slow
def test_the_summary_has_the_best_of_each_class(compared: tuple[list[str], Path]) -> None:
    """A row a class names the detector of the largest AUC on the first sample, and leads to the part of the class."""
    _, folder = compared
    page = (folder / "comparison.md").read_text()
    summary = page.split("## ")[1]
    for knowledge in Knowledge:
        here = [one for one in lines(folder) if one["class"] == knowledge and one["sample"] == "test"]
        (row,) = re.findall(rf"^\| \[{re.escape(knowledge)}\]\(#.*", summary, re.MULTILINE) or [""]
        assert bool(row) == (f"## {knowledge}\n" in page)
        if here:
            best = max(here, key=lambda one: float(one["figures"]["AUC"]["value"]))
            name = f"**{best['detector']}**" if best["ours"] else best["detector"]
            assert row.split(" | ")[5].startswith(f"{name} ({best['sees']})")


def test_the_shipped_page_shows_the_shipped_results() -> None:
    """The page of the comparison is what its results are rendered to."""
    folder = Path(__file__).parents[3] / "exported" / "comparison"
    found = msgspec.json.decode((folder / "comparison.json").read_bytes(), type=Comparison)
    assert (folder / "comparison.md").read_text() == render(found)


@pytest.mark.slow
def test_a_background_from_elsewhere_is_not_learned_beside_the_training_background(
    compared: tuple[list[str], Path],
) -> None:
    """Trees learn the test sample and a signal alone; on a sample with its own background they bring what they know."""
    _, folder = compared
    supervised = {(one["detector"], one["sample"]) for one in lines(folder) if one["class"] == Knowledge.SUPERVISED}
    here, there = "boosted trees on this sample", "boosted trees on test"
    assert supervised == {(here, "test"), (here, "alone"), (there, "elsewhere"), (there, "alone")}


@pytest.mark.slow
def test_figures_are_drawn(compared: tuple[list[str], Path]) -> None:
    """There is a figure of all AUCs and one of curves for each sample, all linked from the page."""
    _, folder = compared
    names = {"auc.png", "roc-test.png", "roc-elsewhere.png", "roc-alone.png"}
    assert {path.name for path in folder.glob("*.png")} == names
    assert all((folder / name).read_bytes().startswith(b"\x89PNG") for name in names)
    assert set(re.findall(r"\]\(([^#].*?)\)", (folder / "comparison.md").read_text())) == names


@pytest.mark.slow
def test_the_tilt_is_added_to_scores_that_were_learned_once(compared: tuple[list[str], Path]) -> None:
    """A mixture's line with the tilt has the AUC of its own score and the tilt; both come from the same parts."""
    (train, test, *_), folder = compared
    events = read_files(Files(Path(train), None, (Path(test),)))
    (mixture,) = (folder / "parts").glob("gaussian-mixture-1-component-its-default-jets-1-*.npy")
    total = np.load(mixture)[: len(events.scored)].astype(float) + 2 * tilt(events)
    (sample,) = events.samples
    found = line(folder, detector="Gaussian mixture, 1 component (its default) + tilt", sample="test")
    assert found["class"] == Knowledge.STATED_PRIOR
    expected = counted_auc(total[sample.background], total[sample.signal])
    assert found["figures"]["AUC"]["value"] == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
def test_means_are_over_signals_of_the_first_background(compared: tuple[list[str], Path]) -> None:
    """A sample with a background of its own does not count, the mean rejection is geometric, and floors are named."""
    _, folder = compared
    text = section((folder / "comparison.md").read_text(), Knowledge.KNOWN_DIRECTION)
    assert text.count("largest eps_S/sqrt(eps_B), at least 100 background events") == 2 + 3
    assert "### test: 300 background and 120 signal events" in text
    means = text.split("### Mean over 2 signals\n")[1].split("\n\n")[0]
    (row,) = (one.split(" | ") for one in means.splitlines() if "minus tau32" in one)
    here, alone = (
        line(folder, detector="minus tau32 of both jets", sample=sample)["figures"] for sample in ("test", "alone")
    )
    areas, rejections = ([one[name]["value"] for one in (here, alone)] for name in ("AUC", "1/eps_B at eps_S = 0.5"))
    assert float(row[2].split(" ± ")[0]) == pytest.approx(np.mean(areas), abs=1e-3)
    assert float(row[3].split(" ± ")[0]) == pytest.approx(np.sqrt(np.prod(rejections)), rel=0.02)


# What it keeps


@pytest.mark.slow
def test_what_is_finished_is_not_done_again(compared: tuple[list[str], Path]) -> None:
    """The same command again makes only the part that is missing, and ends with the same page and the same figures."""
    files, folder = compared
    before = {path: path.stat().st_mtime_ns for path in (folder / "parts").glob("*.npy")}
    results = [(folder / name).read_bytes() for name in ("comparison.md", "comparison.json")]
    (lost,) = (folder / "parts").glob("ecod-raw-1-*.npy")
    lost.unlink()
    assert main([*files, "--out", str(folder), "--seeds", str(SEEDS)]) == 0
    after = {path: path.stat().st_mtime_ns for path in (folder / "parts").glob("*.npy")}
    assert after.keys() == before.keys()
    assert [path for path in before if after[path] != before[path]] == [lost]
    assert [(folder / name).read_bytes() for name in ("comparison.md", "comparison.json")] == results


@pytest.mark.slow
def test_parts_of_other_events_are_refused(compared: tuple[list[str], Path], tmp_path: Path) -> None:
    """A folder with parts of other events is left alone, and the error says what to do."""
    (train, _, *more), folder = compared
    write_events(tmp_path / "test.h5", samples.mixed(300, 120, seed=5))
    page = (folder / "comparison.md").read_bytes()
    with pytest.raises(PartsError, match="remove the folder to start anew"):
        main([train, str(tmp_path / "test.h5"), *more, "--out", str(folder)])
    assert (folder / "comparison.md").read_bytes() == page


@pytest.mark.parametrize(
    ("after", "same"),
    [
        ('"""Another docstring."""\n\nRATE = 1  # and a comment\n\n\ndef double(x):\n    return 2 * x\n', True),
        ('"""Module."""\nRATE = 2\ndef double(x):\n    """Double."""\n    return 2 * x\n', False),
    ],
)
def test_comments_do_not_retrain(tmp_path: Path, after: str, same: bool) -> None:
    """The name of a part depends on the code of its detector, and not on comments, docstrings and layout."""
    code = tmp_path / "code.py"
    code.write_text('"""Module."""\nRATE = 1\ndef double(x):\n    """Double."""\n    return 2 * x\n')
    before = code_digest([str(code)])
    code.write_text(after)
    assert (code_digest([str(code)]) == before) == same


# What it refuses


def refused(arguments: list[str], out: Path) -> str:
    """Require an error that leaves no folder, and return it."""
    with pytest.raises(EventsError) as error:
        main([*arguments, "--out", str(out)])
    assert not out.exists()
    return str(error.value)


def test_events_that_were_learned_are_not_for_testing(tmp_path: Path) -> None:
    """A sample that shares an event with the training background or the exposure is refused."""
    train, test, *_ = write_files(tmp_path)
    shared = samples.mixed(300, 120, seed=2)
    shared.features[7] = samples.background(1000, seed=1)[500]
    write_events(tmp_path / "shared.h5", shared)
    assert "has 1 events that detectors learn from" in refused([train, str(tmp_path / "shared.h5")], tmp_path / "out")
    assert "has 120 events that" in refused([train, test, "--exposure", test], tmp_path / "out")


def test_a_sample_without_labels_is_refused(tmp_path: Path) -> None:
    """Events without labels cannot be judged."""
    train, test, *_ = write_files(tmp_path)
    write_events(tmp_path / "unlabelled.h5", Events(samples.background(100)))
    assert "no column 'label'" in refused([train, test, str(tmp_path / "unlabelled.h5")], tmp_path / "out")


def test_the_first_sample_has_both_classes(tmp_path: Path) -> None:
    """A signal alone needs a background before it to be judged against, and an exposure some signal.

    Samples of one name could not be told apart.
    """
    train, test, _, alone = write_files(tmp_path)
    assert "0 background (label 0) events" in refused([train, alone], tmp_path / "out")
    assert "holds no signal" in refused([train, test, "--exposure", train], tmp_path / "out")
    assert "have the same name" in refused([train, test, "other/" + Path(test).name], tmp_path / "out")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--seeds", "0"], "expected 1 or more"),
        (["--processes", "0"], "expected 1 to 1024"),
        (["--processes", "1025"], "expected 1 to 1024"),
    ],
)
def test_wrong_arguments_are_mistakes(arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    """No seed, no process and too many processes end with exit code 2 and a reason."""
    with pytest.raises(SystemExit) as ended:
        main(["TRAIN.h5", "TEST.h5", *arguments, "--out", "DIR"])
    assert ended.value.code == 2
    assert expected in capsys.readouterr().err


def test_a_name_that_is_not_utf_8_is_text_in_the_results(tmp_path: Path) -> None:
    """A sample is called by one text in the rows and in the digests, which JSON can hold."""
    train, test, _, alone = map(Path, write_files(tmp_path))
    files = Files(train, None, (test, alone.rename(tmp_path / "odd\udce9.h5")))
    names = [sample.name for sample in read_files(files).samples]
    assert names == list(files.sha256()["samples"]) == ["test", "odd\ufffd"]


def test_exported_models_are_compared_as_they_are(tmp_path: Path) -> None:
    """A file is a line of the class that it states, with its own scores; one of other features is named."""
    train, test, *_ = (Path(name) for name in write_files(tmp_path))
    events = read_files(Files(train, None, (test,)))
    (planned,) = (one for one in plan(events, [MODEL]) if isinstance(one.detector, Exported))
    artefact = load_artefact(MODEL)
    assert (planned.line.knowledge, planned.line.name) == (Knowledge.STATED_PRIOR, artefact.identity)
    np.testing.assert_array_equal(planned.detector.score(events, 1), Scorer(artefact).score(events.scored))
    other = write_artefact(tmp_path / "other.onnx")
    with pytest.raises(EventsError, match=r"other\.onnx takes other features, expected a model of the 14 features"):
        list(plan(events, [other]))
