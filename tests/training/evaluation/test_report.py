"""A report is one page that stands alone, with the figures and numbers of every sample, or nothing at all."""

import json
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib.image
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon

from service.model.artefact import load_artefact, parse_artefact
from service.model.explanation import Explainer
from service.model.scorer import Scorer
from tests.artefacts import metadata, model, write_artefact
from tests.training import samples
from tests.training.evaluation.pages import Page
from training.__main__ import main
from training.evaluation.facts import CAUTION
from training.evaluation.page import render, write_report
from training.evaluation.report import MASSES, compile_report
from training.evaluation.samples import load_samples
from training.events.events import BACKGROUND, FEATURE_NAMES, SIGNAL, digest, read_events, write_events
from training.fitting.working_points import derive_working_points
from training.model_class import ModelClass

pytestmark = pytest.mark.slow

CALIBRATION = samples.background(5000, seed=40)
FIRST = samples.mixed(3000, 400)


class Written:
    """A report on every kind of sample, and what it was made from."""

    def __init__(self, folder: Path) -> None:
        self.samples, self.folder = folder, folder / "out"
        self.artefact = load_artefact(an_artefact(folder / "model.onnx"))
        self.scorer = Scorer(self.artefact)
        for name, events in (("first", FIRST), ("other", samples.mixed(150, 60, seed=1))):
            write_events(folder / f"{name}.h5", events)
        self.events = [
            folder / "first.h5",
            folder / "other.h5",
            samples.labelled(folder / "odd.h5", samples.degenerate(), SIGNAL),
            samples.written(folder / "check.h5", samples.background(2000, seed=3)),
            samples.written(folder / "drifted.h5", 1.2 * samples.background(2000, seed=9)),
            samples.labelled(folder / "calibration.h5", CALIBRATION, BACKGROUND),
        ]
        assert main(["report", f"{folder}/model.onnx", *map(str, self.events), "--out", str(self.folder)]) == 0
        self.html = (self.folder / "report.html").read_text(encoding="utf-8")
        self.page = Page(self.html)
        text = (self.folder / "report.json").read_text(encoding="utf-8")
        self.report: dict[str, Any] = json.loads(text, parse_constant=pytest.fail)

    def scores(self, name: str, label: int) -> NDArray[np.float64]:
        """Return the scores of the background or the signal of a file."""
        events = read_events(self.samples / f"{name}.h5")
        part = events.background if label == BACKGROUND else events.signal
        return self.scorer.score(part.features).astype(float)


def an_artefact(path: Path) -> Path:
    """Write an artefact whose score anybody can compute, trained on FIRST, its points from CALIBRATION."""
    described = metadata(14, FEATURE_NAMES)
    scores = Scorer(parse_artefact(model(described).SerializeToString())).score(CALIBRATION)
    points = derive_working_points(scores, digest(CALIBRATION))
    changes = {
        "working_points": points,
        "data_sha256": digest(FIRST.background.features),
        "training": {"class": ModelClass.STATED_PRIOR},
    }
    return write_artefact(path, model(msgspec.structs.replace(described, **changes)))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """Make the report once for all tests, which only read it."""
    return Written(tmp_path_factory.mktemp("report"))


def test_page_needs_nothing_else(written: Written) -> None:
    """No tag of the page leads out of it, nothing in it runs, and no address of a network is in it."""
    tags = written.page.tags
    assert {tag for tag, _ in tags}.isdisjoint({"script", "link", "iframe", "object", "embed", "form"})
    for _, attributes in tags:
        assert not {name for name in attributes if name.startswith("on") or name in ("srcset", "action")}
        assert (attributes.get("href") or "#").startswith("#")
    assert [text for text in ("://", "url(", "@import") if text in written.html] == []
    assert len(written.html) < 5_000_000


def test_contents_lead_to_every_section(written: Written) -> None:
    """The contents name each section once, in its order, and each section leads back to them."""
    tags = written.page.tags
    headings = [attributes["id"] for tag, attributes in tags if tag == "h2"]
    targets = [(attributes["href"] or "").removeprefix("#") for tag, attributes in tags if tag == "a"]
    assert targets == [*headings, *["contents"] * len(headings)]
    assert len(set(headings)) == len(headings) == 9
    assert [attributes["id"] for tag, attributes in tags if tag == "nav"] == ["contents"]


def test_the_summary_has_the_headline_figures(written: Written) -> None:
    """They stand above the contents: what the first sample reaches, the spread of the AUC, and what is not nominal."""
    summary = Page(written.html[written.html.index('<dl class="summary">') : written.html.index("<nav")]).text
    first, *others = written.report["evaluations"]
    values = sorted(one["auc"]["value"] for one in (first, *others))
    judged = [one["verdict"] for one in written.report["checks"] if "agree" in one["verdict"]]
    against = dict.fromkeys(one["sample"] for one in written.report["checks"] if one["verdict"] == "does not agree")
    for shown in (
        "AUC on first",
        f"{first['auc']['value']:.2f}",
        f"AUC of {len(values)} signals",
        f"{values[0]:.3f} to {values[-1]:.3f}",
        f"{judged.count('agrees')} of {len(judged)}",
        f"not on {', '.join(against)}",
    ):
        assert shown in summary


def test_every_figure_is_on_the_page_and_beside_it(written: Written) -> None:
    """The page shows each PNG of the folder byte by byte, with a description, and each is a picture of something."""
    beside = {path.stem: path.read_bytes() for path in written.folder.glob("*.png")}
    assert set(written.page.images()) == set(beside.values())
    expected = {"rejection", "improvement", "scores", "sculpting", "features_event", "contributions"}
    assert set(beside) == expected | {"features_jet1", "features_jet2"} | {f"efficiency_{mass}" for mass in MASSES}
    assert all(attributes.get("alt") for tag, attributes in written.page.tags if tag == "img")
    for image in beside.values():
        pixels = matplotlib.image.imread(BytesIO(image))
        assert min(pixels.shape[:2]) > 300
        assert pixels[..., :3].std() > 0.01


def test_the_page_names_the_model_the_samples_and_what_is_wrong(written: Written) -> None:
    """It says which model it is about and of what class, which samples it was judged on, and which are no evidence.

    Background unlike the calibration's does not agree, and what the model was trained on is named as such.
    """
    text = written.page.text
    for shown in (written.artefact.identity, written.artefact.sha256, CAUTION[ModelClass.STATED_PRIOR].split(".")[0]):
        assert shown in text
    assert all(text.count(path.stem) >= 2 for path in written.events)
    loose = next(one for one in written.report["checks"] if (one["sample"], one["point"]) == ("drifted", "loose"))
    assert loose["verdict"] == "does not agree"
    assert loose["pull"] > 5
    assert f"{loose['pull']:+.1f}" in text
    assert [one["trained_on"] for one in written.report["samples"]] == [True] + 5 * [False]
    assert text.count("was trained on this background") == 2
    assert "The figures of first, odd are optimistic: the model was trained on this background." in text


def test_signal_alone_is_judged_against_the_first_background(written: Written) -> None:
    """AUC and efficiencies are those of counting: against the file's own background, or else the first file's."""
    evaluations = {one["sample"]: one for one in written.report["evaluations"]}
    against = {one["sample"]: one["judged_against"] for one in written.report["samples"]}
    judged = {"first": "first", "other": "other", "odd": "first"}
    assert list(evaluations) == list(judged)
    assert against == judged | dict.fromkeys(["check", "drifted", "calibration"])
    for name, found in evaluations.items():
        background, signal = written.scores(against[name], BACKGROUND), written.scores(name, SIGNAL)
        assert (found["background_events"], found["signal_events"]) == (len(background), len(signal))
        above = (signal[:, None] > background).mean() + (signal[:, None] == background).mean() / 2
        assert found["auc"]["value"] == pytest.approx(above)
        for point in written.artefact.metadata.working_points:
            assert found["signal_efficiency"][point.name]["value"] == pytest.approx((signal > point.threshold).mean())


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


def test_sculpting_is_that_of_the_counts(written: Written) -> None:
    """The divergence is SciPy's distance, base 2, squared, of the very counts that stand beside it."""
    background = written.scores("first", BACKGROUND)
    for point in written.artefact.metadata.working_points:
        found = written.report["sculpting"][point.name]
        assert (sum(found["before"]), sum(found["after"])) == (found["events"], found["selected"])
        assert (found["events"], found["selected"]) == (len(background), (background > point.threshold).sum())
        assert found["divergence"] == pytest.approx(jensenshannon(found["before"], found["after"], base=2) ** 2)
        assert 0 < found["floor"] < found["floor_95"]
        assert f"{found['floor']:.3g}" in written.page.text


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


def test_a_report_is_the_same_every_time_and_complete_or_as_it_was(written: Written, tmp_path: Path) -> None:
    """The same model, samples and figures give the same numbers and page; a missing figure is said.

    Where one file of a report cannot be written, those of the last report stay as they were.
    """
    scored = load_samples(written.scorer, written.events)
    report = compile_report(written.scorer, scored)
    assert json.loads(json.dumps(asdict(report))) == written.report
    pngs = {path.name: path.read_bytes() for path in written.folder.glob("*.png")}
    assert render(written.artefact, report, pngs) == written.html
    page = Page(render(written.artefact, report, {"scores.png": b"png"}))
    assert page.images() == [b"png"]
    assert "rejection.png could not be drawn" in page.text
    (tmp_path / "scores.png").mkdir()
    (tmp_path / "report.html").write_text("the last one", encoding="utf-8")
    with pytest.raises(OSError, match=r"scores\.png"):
        write_report(tmp_path, written.artefact, report, scored)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "scores.png"]
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == "the last one"


def test_the_report_explains_scores(written: Written) -> None:
    """Mean sizes of contributions are those of the events of a class, and the most anomalous events add up."""
    explanations = written.report["explanations"]
    assert list(explanations["means"]) == [
        *(f"{name} background" for name in ("first", "other", "check", "drifted", "calibration")),
        *("first", "other", "odd"),
    ]
    explainer = Explainer(written.scorer)
    expected = np.abs(explainer.explain(read_events(written.samples / "other.h5").signal.features).contributions)
    of_other = explanations["means"]["other"]
    assert of_other["events"] == 60
    np.testing.assert_allclose(list(of_other["contributions"].values()), expected.mean(axis=0), rtol=1e-5)
    assert list(of_other["contributions"]) == list(FEATURE_NAMES)
    scores = written.scorer.score(FIRST.features)
    found = explanations["most_anomalous"]
    assert [one["row"] for one in found] == np.argsort(-scores, kind="stable")[:10].tolist()
    for one in found:
        assert one["is_signal"] == (FIRST.labels is not None and FIRST.labels[one["row"]] == SIGNAL)
        assert one["anomaly_score"] == pytest.approx(scores[one["row"]])
        total = sum(one["contributions"].values())
        assert total == pytest.approx(one["anomaly_score"] - explanations["reference_score"], rel=1e-4)
        assert f"{one['row']}" in written.page.text


def test_a_model_that_cannot_be_explained_has_a_report(
    written: Written, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The page says why the section is empty, and so does the log."""
    described = written.artefact.metadata
    points = [msgspec.structs.replace(one, threshold=-1.0) for one in described.working_points]
    changed = model(msgspec.structs.replace(described, working_points=points))
    scorer = Scorer(load_artefact(write_artefact(tmp_path / "model.onnx", changed)))
    report = compile_report(scorer, load_samples(scorer, written.events[:1]))
    assert report.explanations is None
    assert "no golden event of ordinary background" in caplog.text
    assert "cannot be explained" in Page(render(scorer.artefact, report, {})).text
