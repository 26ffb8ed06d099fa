"""A report is one page that stands alone, with the figures and numbers of every sample, or nothing at all."""

import json
from base64 import b64decode
from dataclasses import asdict, dataclass, field
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib.image
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon

from service.model.artefact import Artefact, load_artefact, parse_artefact
from service.model.scorer import Scorer
from tests.artefacts import metadata, model, write_artefact
from tests.training import samples
from training.__main__ import main
from training.evaluation.report import (
    MASSES,
    UNEXPOSED,
    compile_report,
    facts,
    in_words,
    load_samples,
    render,
    write_report,
)
from training.events.events import BACKGROUND, FEATURE_NAMES, SIGNAL, Events, digest, read_events, write_events
from training.fitting.working_points import derive_working_points

CALIBRATION = samples.background(5000, seed=40)
FIRST = samples.mixed(3000, 400)


def an_artefact(path: Path, **changes: object) -> Path:
    """Write an artefact of the published features whose score anybody can compute, its points from CALIBRATION."""
    described = metadata(14, FEATURE_NAMES)
    scores = Scorer(parse_artefact(model(described).SerializeToString())).score(CALIBRATION)
    points = derive_working_points(scores, digest(CALIBRATION))
    return write_artefact(path, model(msgspec.structs.replace(described, **({"working_points": points} | changes))))


def labelled(path: Path, features: NDArray[np.float32], label: int) -> Path:
    """Write events that all have one label, and give the path."""
    write_events(path, Events(features, np.full(len(features), label, np.int8)))
    return path


def several(folder: Path) -> list[Path]:
    """Write one file of each kind that a report takes, and give the paths."""
    for name, events in (("first", FIRST), ("other", samples.mixed(150, 60, seed=1))):
        write_events(folder / f"{name}.h5", events)
    return [
        folder / "first.h5",
        folder / "other.h5",
        labelled(folder / "odd.h5", samples.degenerate(), SIGNAL),
        samples.written(folder / "check.h5", samples.background(2000, seed=3)),
        samples.written(folder / "drifted.h5", 1.2 * samples.background(2000, seed=9)),
        labelled(folder / "calibration.h5", CALIBRATION, BACKGROUND),
    ]


@dataclass
class Written:
    """A report and what it was made from."""

    model: Path
    events: list[Path]
    folder: Path
    report: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.report = json.loads((self.folder / "report.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)

    @property
    def artefact(self) -> Artefact:
        """The model that was reported on."""
        return load_artefact(self.model)

    def scores(self, name: str, label: int) -> NDArray[np.float64]:
        """Return the scores of the background or the signal of a file."""
        events = read_events(self.folder.parent / f"{name}.h5")
        part = events.background if label == BACKGROUND else events.signal
        return Scorer(self.artefact).score(part.features).astype(float)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """Make a report of every kind of sample, once for all tests that only read it."""
    folder = tmp_path_factory.mktemp("report")
    artefact = an_artefact(folder / "model.onnx", data_sha256=digest(FIRST.background.features))
    events, out = several(folder), folder / "out"
    assert main(["report", str(artefact), *map(str, events), "--out", str(out)]) == 0
    return Written(artefact, events, out)


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Note a text."""
        self.text += data

    def images(self) -> list[bytes]:
        """Return what the page shows as images, each of which must lie inside it."""
        sources = [attributes["src"] or "" for tag, attributes in self.tags if tag == "img"]
        prefix = "data:image/png;base64,"
        assert all(source.startswith(prefix) for source in sources)
        return [b64decode(source.removeprefix(prefix), validate=True) for source in sources]


def page_of(folder: Path) -> Page:
    """Return the page of a report."""
    return Page((folder / "report.html").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_page_needs_nothing_else(written: Written) -> None:
    """No tag of the page leads out of it, nothing in it runs, and no address of a network is in it."""
    page = page_of(written.folder)
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "iframe", "object", "embed", "form", "a"})
    for _, attributes in page.tags:
        assert not {name for name in attributes if name.startswith("on") or name in ("href", "srcset", "action")}
    text = (written.folder / "report.html").read_text(encoding="utf-8")
    assert "://" not in text
    assert "url(" not in text
    assert "@import" not in text


@pytest.mark.slow
def test_every_figure_is_on_the_page_and_beside_it(written: Written) -> None:
    """The page shows each PNG of the folder byte by byte, with a description, and each is a picture of something."""
    page, beside = page_of(written.folder), {path.read_bytes() for path in written.folder.glob("*.png")}
    assert set(page.images()) == beside
    expected = {"rejection", "improvement", "scores", "sculpting", "features_event"}
    expected |= {f"features_jet{jet}" for jet in (1, 2)} | {f"efficiency_{mass}" for mass in MASSES}
    assert {path.stem for path in written.folder.glob("*.png")} == expected
    assert all(attributes.get("alt") for tag, attributes in page.tags if tag == "img")
    for image in beside:
        pixels = matplotlib.image.imread(BytesIO(image))
        assert min(pixels.shape[:2]) > 300
        assert pixels[..., :3].std() > 0.01
    assert (written.folder / "report.html").stat().st_size < 5_000_000


@pytest.mark.slow
def test_every_sample_and_the_model_are_named(written: Written) -> None:
    """The page says which model it is about, what class it is of, and which samples it was judged on."""
    page = page_of(written.folder)
    for text in (written.artefact.identity, written.artefact.sha256, UNEXPOSED):
        assert text in page.text
    for path in written.events:
        assert page.text.count(path.stem) >= 2, path.stem


@pytest.mark.slow
def test_signal_alone_is_judged_against_the_first_background(written: Written) -> None:
    """AUC and efficiencies are those of counting: against the file's own background, or else the first file's."""
    evaluations = {one["sample"]: one for one in written.report["evaluations"]}
    against = {one["sample"]: one["judged_against"] for one in written.report["samples"]}
    assert list(evaluations) == ["first", "other", "odd"]
    judged = {"first": "first", "other": "other", "odd": "first"}
    assert against == judged | dict.fromkeys(["check", "drifted", "calibration"])
    for name, found in evaluations.items():
        background, signal = written.scores(against[name], BACKGROUND), written.scores(name, SIGNAL)
        assert (found["background_events"], found["signal_events"]) == (len(background), len(signal))
        above = (signal[:, None] > background).mean() + (signal[:, None] == background).mean() / 2
        assert found["auc"]["value"] == pytest.approx(above)
        for point in written.artefact.metadata.working_points:
            assert found["signal_efficiency"][point.name]["value"] == pytest.approx((signal > point.threshold).mean())


@pytest.mark.slow
def test_checks_count_the_background_above_each_threshold(written: Written) -> None:
    """Each background has its pull at each point, with both samples' errors, where enough events are expected."""
    points = {point.name: point for point in written.artefact.metadata.working_points}
    found = {(one["sample"], one["point"]): one for one in written.report["checks"]}
    names = ["first", "other", "check", "drifted", "calibration"]
    assert list(found) == [(name, point) for name in names for point in points]
    assert list(points) == ["loose", "medium"]
    for (name, point_name), one in found.items():
        point, scores = points[point_name], written.scores(name, BACKGROUND)
        nominal, passed = point.background_efficiency, int((scores > point.threshold).sum())
        assert (one["events"], one["passed"]) == (len(scores), passed)
        variance = nominal * (1 - nominal) * (1 / len(scores) + 1 / 5000)
        if name == "calibration":
            assert (one["pull"], one["ratio"]["value"]) == (None, 1.0)
            assert "comes from these events" in one["verdict"]
        elif len(scores) * nominal < 10:
            assert (one["pull"], one["verdict"]) == (None, "too few events to tell")
        else:
            assert one["pull"] == pytest.approx((passed / len(scores) - nominal) / np.sqrt(variance))
            assert one["verdict"] == ("agrees" if abs(one["pull"]) < 2 else "does not agree")
    assert found["other", "medium"]["pull"] is None
    assert found["check", "medium"]["pull"] is not None


@pytest.mark.slow
def test_drift_and_training_events_are_told(written: Written) -> None:
    """Background unlike the calibration's does not agree, and what the model was trained on is named as such."""
    page = page_of(written.folder)
    loose = next(one for one in written.report["checks"] if (one["sample"], one["point"]) == ("drifted", "loose"))
    assert loose["verdict"] == "does not agree"
    assert loose["pull"] > 5
    assert f"{loose['pull']:+.1f}" in page.text
    assert [one["trained_on"] for one in written.report["samples"]] == [True] + 5 * [False]
    assert page.text.count("was trained on this background") == 1


@pytest.mark.slow
def test_sculpting_is_that_of_the_counts(written: Written) -> None:
    """The divergence is SciPy's distance, base 2, squared, of the very counts that stand beside it."""
    background = written.scores("first", BACKGROUND)
    for point in written.artefact.metadata.working_points:
        found = written.report["sculpting"][point.name]
        assert (sum(found["before"]), sum(found["after"])) == (found["events"], found["selected"])
        assert (found["events"], found["selected"]) == (len(background), (background > point.threshold).sum())
        assert found["divergence"] == pytest.approx(jensenshannon(found["before"], found["after"], base=2) ** 2)
        assert 0 < found["floor"] < found["floor_95"]
        assert f"{found['floor']:.3g}" in page_of(written.folder).text


@pytest.mark.slow
def test_efficiencies_count_every_event_that_has_the_mass(written: Written) -> None:
    """Bins add up to the sample; an event without a second jet has neither a dijet mass nor a lighter jet."""
    sizes = {"first background": 3000, "first": 400, "other": 60, "odd": 6}
    lacking = {"mjj": 2, "m_heavier": 1, "m_lighter": 2}
    assert written.report["samples"][2]["events_without_second_jet"] == 2
    for mass, of_samples in written.report["efficiencies"].items():
        assert list(of_samples) == list(sizes)
        for name, points in of_samples.items():
            for binned in points.values():
                assert sum(binned["events"]) == sizes[name] - (lacking[mass] if name == "odd" else 0)
                assert len(binned["events"]) == len(written.report["mass_edges_gev"][mass]) - 1
                assert all(
                    passed <= events and low <= passed / max(events, 1) <= high
                    for events, passed, low, high in zip(*binned.values(), strict=True)
                )


@pytest.mark.slow
def test_a_report_is_the_same_every_time(written: Written) -> None:
    """The same model, samples and figures give the same numbers and the same page."""
    report = compile_report(written.artefact, load_samples(Scorer(written.artefact), written.events))
    assert json.loads(json.dumps(asdict(report))) == written.report
    pngs = {path.name: path.read_bytes() for path in written.folder.glob("*.png")}
    assert render(written.artefact, report, pngs) == (written.folder / "report.html").read_text(encoding="utf-8")


def test_names_are_text_and_a_model_without_points_has_a_report(tmp_path: Path) -> None:
    """Whatever a file or a model is called is shown as text; tables and figures that need a threshold are left out."""
    hostile, formula, hidden = "<img src=x onerror=alert(1)>", "$\\frac{a_{$\udce9", "_" * 80
    write_events(tmp_path / f"{hostile}.h5", samples.mixed(40, 30))
    labelled(tmp_path / f"{formula}.h5", samples.signal(30), SIGNAL)
    labelled(tmp_path / f"{hidden}.h5", samples.signal(2), SIGNAL)
    artefact = an_artefact(
        tmp_path / "model.onnx",
        model_name="<script>alert(1)</script>",
        training={"configuration": {"seed": "<b>&amp;"}, "exposure": {"signals": ["<i>"]}},
        working_points=[],
    )
    scorer = Scorer(load_artefact(artefact))
    scored = load_samples(scorer, [tmp_path / f"{name}.h5" for name in (hostile, formula, hidden)])
    page = Page(render(scorer.artefact, compile_report(scorer.artefact, scored), {}))
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "b>", "i"})
    assert page.text.count("could not be drawn") == 6
    for text in (
        hostile,
        "$\\frac{a_{$\ufffd",
        hidden,
        "<script>alert(1)</script>@",
        "<b>&amp;",
        "<i>",
        "no working point",
    ):
        assert text in page.text


def test_unusable_files_and_models_are_errors_of_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], subtests: pytest.Subtests
) -> None:
    """Each is named with its remedy, before anything is written."""
    good, foreign = an_artefact(tmp_path / "model.onnx"), write_artefact(tmp_path / "other.onnx")
    both, one, absent = (tmp_path / f"{name}.h5" for name in ("both", "one", "absent"))
    write_events(both, samples.mixed(50, 50))
    write_events(one, samples.mixed(50, 1))
    alone = [labelled(tmp_path / f"{label}.h5", samples.background(50), label) for label in (BACKGROUND, SIGNAL)]
    for model_file, events, reason in (
        (good, [alone[0]], f"{alone[0]} holds background alone, expected background (label 0) and signal (label 1)"),
        (good, [alone[1]], "holds signal alone"),
        (good, [alone[1]], "name a file with both first"),
        (good, [one], f"{one} has 1 signal event, expected none or at least 2"),
        (good, [both, absent], "no such file"),
        (foreign, [both], "use a model that was trained on them"),
    ):
        with subtests.test(msg=reason):
            out = tmp_path / "out"
            assert main(["report", str(model_file), *map(str, events), "--out", str(out)]) == 1
            line = capsys.readouterr().err.splitlines()[-1]
            assert line.startswith("error: ")
            assert reason in line
            assert not out.exists()


def test_mistakes_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two files of one name, and a file where the folder should be, are errors before any work."""
    out, events = tmp_path / "out", ["a/one.h5", "b/one.h5"]
    with pytest.raises(SystemExit) as stop:
        main(["report", str(tmp_path / "model.onnx"), *events, "--out", str(out)])
    assert stop.value.code == 2
    assert "same name" in capsys.readouterr().err
    out.write_text("mine", encoding="utf-8")
    assert main(["report", str(tmp_path / "model.onnx"), *events[:1], "--out", str(out)]) == 1
    assert "A file, expected a folder" in capsys.readouterr().err
    assert out.read_text(encoding="utf-8") == "mine"


@pytest.mark.slow
def test_a_report_that_cannot_be_completed_changes_nothing(written: Written, tmp_path: Path) -> None:
    """Where one file of a report cannot be written, those of the last report stay as they were."""
    (tmp_path / "scores.png").mkdir()
    (tmp_path / "report.html").write_text("the last one", encoding="utf-8")
    scored = load_samples(Scorer(written.artefact), written.events)
    with pytest.raises(OSError, match=r"scores\.png"):
        write_report(tmp_path, written.artefact, compile_report(written.artefact, scored), scored)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "scores.png"]
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == "the last one"


@pytest.mark.slow
def test_a_missing_figure_is_said(written: Written) -> None:
    """A page without one of its figures says so in its place."""
    report = compile_report(written.artefact, load_samples(Scorer(written.artefact), written.events))
    page = Page(render(written.artefact, report, {"scores.png": b"png"}))
    assert page.images() == [b"png"]
    assert "rejection.png could not be drawn" in page.text


@pytest.mark.slow
def test_what_a_model_saw_is_said(written: Written) -> None:
    """A model that says nothing of exposure saw background alone; one that says something is quoted."""
    assert facts(written.artefact)["Class"] == UNEXPOSED
    exposed = msgspec.structs.replace(written.artefact.metadata, training={"exposure": {"signal_events": 4000}})
    stated = facts(Artefact(written.artefact.graph, exposed, written.artefact.sha256))
    assert stated["Class"] == "exposed to signal in training: signal events 4000"
    assert stated["Configuration"] == "not stated"
    assert in_words({"hidden": [64, 32], "learning_rate": 1e-3}) == "hidden [64, 32], learning rate 0.001"
