"""The command `search`: what it finds, what its page and numbers say, and what it refuses."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest

from service.model.artefact import WorkingPoint, load_artefact
from tests.artefacts import metadata, model, write_artefact
from tests.training import samples
from tests.training.commands import refused
from tests.training.evaluation.pages import Page
from tests.training.search import spectra
from training.__main__ import main
from training.evaluation.model import open_scorer
from training.events.events import BACKGROUND, FEATURE_NAMES, SIGNAL, Events, write_events
from training.events.kinematics import quantities
from training.search.page import render
from training.search.samples import read_samples
from training.search.search import Search, search

N_BACKGROUND, N_SIGNAL, TOYS = 4000, 250, 300


class Searched(NamedTuple):
    """A model, a file of labelled events, and what is found in them."""

    model: Path
    both: Path
    found: Search


def mixed(events: int, signal: int) -> Events:
    """Return labelled events of both kinds, the signal last."""
    features = np.concatenate([spectra.background(events), spectra.resonance(signal)])
    return Events(features, np.repeat([BACKGROUND, SIGNAL], [events, signal]).astype(np.int8))


def searched(model: Path, events: Path, signals: Sequence[Path] = (), **options: Any) -> Search:
    """Search a file with a model's working point `all`, which accepts every event."""
    scorer = open_scorer(model)
    samples, injected = (read_samples(scorer, -1.0, paths) for paths in ([events], signals))
    return search(scorer.artefact, "all", samples, injected, spectra.EDGES, toys=TOYS, **options)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Searched:
    """Search labelled events."""
    folder = tmp_path_factory.mktemp("search")
    described = metadata(14, FEATURE_NAMES)
    points = [WorkingPoint("all", 1.0, -1.0, 0.05, 10_000, "c" * 64), *described.working_points[1:]]
    described = msgspec.structs.replace(described, working_points=points)
    artefact, both = write_artefact(folder / "model.onnx", model(described)), folder / "both.h5"
    write_events(both, mixed(N_BACKGROUND, N_SIGNAL))
    return Searched(artefact, both, searched(artefact, both))


def test_a_resonance_is_found_where_it_is(made: Searched) -> None:
    """The window, its counts by the events themselves, both p-values, and nothing in the background alone."""
    best, closure = made.found.found.best, made.found.closure
    assert best.low_gev < 3500 < best.high_gev
    events = mixed(N_BACKGROUND, N_SIGNAL)
    labels, masses = events.labels, quantities(events.features)["mjj"]
    assert labels is not None
    assert closure is not None
    inside = (best.low_gev <= masses) & (masses < best.high_gev)
    assert best.observed == inside.sum()
    assert made.found.signal_in_best == labels[inside].sum()
    assert best.expected == pytest.approx((inside & (labels == BACKGROUND)).sum(), abs=5 * best.error)
    assert made.found.found.global_p.p > best.p
    assert made.found.found.global_p.significance > 5
    assert closure.global_p.p > 0.01
    assert abs(closure.pull_mean) < 0.5
    assert 0.5 < closure.pull_deviation < 1.5
    observed, background = sum(made.found.found.observed), sum(closure.observed)
    assert background + N_SIGNAL >= observed > background


def test_injected_signal_is_found_the_better_the_more_there_is(made: Searched) -> None:
    """The curve starts at none and rises; S is S/sqrt(B) times the root of the background in the region."""
    injected, curve = made.found.signal, made.found.injected
    assert injected is not None
    low, high = injected.region_gev
    assert low < 3500 < high
    masses = quantities(spectra.background(N_BACKGROUND))["mjj"]
    assert injected.background_in_region == ((low < masses) & (masses < high)).sum()
    root = injected.background_in_region**0.5
    assert [one.events for one in curve] == pytest.approx([one.strength * root for one in curve])
    medians = [one.found[1] for one in curve]
    assert abs(medians[0]) < 1
    assert np.all(np.diff(medians) > -0.5)
    assert medians[-1] > 2
    assert medians[-1] == pytest.approx(curve[-1].expected, abs=1)
    last = curve[-1].found_in_events
    assert last is not None
    assert last[1] > 1.5


def test_events_without_labels_take_the_signal_of_a_file(made: Searched, tmp_path: Path) -> None:
    """All their events count as background of the signal region, and nothing is said of truth."""
    background = samples.written(tmp_path / "events.h5", spectra.background(N_BACKGROUND))
    signal_file = samples.labelled(tmp_path / "signal.h5", spectra.resonance(500, seed=5), SIGNAL)
    found = searched(made.model, background, [signal_file], region_gev=(3300.0, 3700.0), parameters=3)
    assert (found.closure, found.signal_in_best, found.parameters) == (None, None, 3)
    assert found.signal is not None
    assert (found.signal.region_gev, found.signal.events) == ((3300, 3700), 500)
    assert {one.found_in_events for one in found.injected} == {None}
    assert found.samples[0].signal_events is None
    page = Page(render(load_artefact(made.model), found, {}))
    for text in ("no labels", "3300 to 3700 GeV", "events without labels count as background"):
        assert text in page.text
    assert page.text.count("could not be drawn") == 4


@pytest.mark.slow
def test_the_page_shows_what_the_numbers_say(
    made: Searched, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every figure is inside the page and beside it; the search of the same events gives the same bytes."""
    command = ["search", str(made.both), "--model", str(made.model), "--working-point", "all", "--toys", str(TOYS)]
    for out in ("once", "again"):
        assert main([*command, "--out", str(tmp_path / out)]) == 0
    once, again = ({path.name: path.read_bytes() for path in (tmp_path / out).iterdir()} for out in ("once", "again"))
    assert once == again
    numbers, best = json.loads(once["search.json"]), made.found.found.best
    assert numbers == json.loads(json.dumps(asdict(made.found)))
    drawn = {name: content for name, content in once.items() if name.endswith(".png")}
    assert set(drawn) == {f"{name}.png" for name in ("spectrum", "windows", "toys", "closure", "injection")}
    page = Page(once["search.html"].decode())
    assert sorted(page.images()) == sorted(drawn.values())
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link"})
    window = f"{best.low_gev:.0f} to {best.high_gev:.0f} GeV"
    for text in (window, f"{best.observed:,.0f}, {made.found.signal_in_best} of them signal", "extrapolated"):
        assert text in page.text
    assert f"{window}: {best.observed:.0f} events" in capsys.readouterr().out


def test_what_cannot_be_searched_is_an_error_of_one_line(
    made: Searched, tmp_path: Path, capsys: pytest.CaptureFixture[str], subtests: pytest.Subtests
) -> None:
    """Each says what is wrong and what to do, and leaves no folder with results."""
    few = samples.written(tmp_path / "few.h5", spectra.background(30))
    copy = Path(shutil.copy(made.both, tmp_path / "copy.h5"))
    narrow, far, low = (
        samples.written(tmp_path / f"{mass:g}.h5", spectra.with_masses(samples.background(500), np.full(500, mass)))
        for mass in (3500.0, 7900.0, 2600.0)
    )
    bare = write_artefact(
        tmp_path / "bare.onnx", model(msgspec.structs.replace(metadata(14, FEATURE_NAMES), working_points=[]))
    )
    out, point = str(tmp_path / "out"), ("--working-point", "all")
    good = (str(made.both), "--model", str(made.model), "--out", out)
    for arguments, reason in (
        ((*good, "--working-point", "none"), "has no working point 'none', expected one of all, tight"),
        ((str(few), "--model", str(bare), "--out", out, *point), "has no working point 'all', and no other: make some"),
        ((str(few), *good[1:], *point), "pass all of sphere@"),
        ((str(narrow), *good[1:], *point), "a spectrum without a spread has no background to fit"),
        ((str(copy), *good, *point), "hold the same events: each counts once, name it once"),
        ((*good, *point, "--range", "5000", "3000"), "expected two masses in ascending order"),
        ((*good, *point, "--range", "3000", "14000"), "below the collision energy of 13000 GeV"),
        ((*good, *point, "--range", "3000", "3300"), "has 4 bins of 2.5% of the mass, expected at least 15"),
        (
            (*good, *point, "--signal", str(far), "--signal-region", "7800", "7950"),
            "no background event has a dijet mass in the signal region",
        ),
        (
            (*good, *point, "--signal", str(low), "--signal-region", "2550", "2650"),
            "passes in the range of the search: choose",
        ),
        ((*good, *point, "--signal-region", "300", "400"), "no signal event has a dijet mass in the signal region"),
    ):
        with subtests.test(msg=reason):
            assert reason in refused(capsys, "search", *arguments)
            assert not (tmp_path / "out" / "search.json").exists()
    assert "5 toys, expected 200 to 1,000,000" in refused(capsys, "search", *good, *point, "--toys", "5", status=2)


@pytest.mark.slow
@pytest.mark.process
def test_an_interrupted_search_leaves_nothing(made: Searched, tmp_path: Path) -> None:
    """Stopped among its toys, which lines count, it ends with one line and the status of the signal."""
    command = [sys.executable, "-m", "training", "search", str(made.both), "--model", str(made.model)]
    command += ["--working-point", "all", "--toys", "1000000", "--out", str(tmp_path / "out")]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        seen = b""
        while b" of 1000000 toys" not in seen:
            read = os.read(process.stderr.fileno(), 65536)
            assert read, seen.decode()
            seen += read
        process.send_signal(signal.SIGINT)
        text = (seen + process.stderr.read()).decode()
        assert process.wait() == 130
    assert text.splitlines()[-1] == "interrupted: the output is unchanged"
    assert not list((tmp_path / "out").glob("*"))
