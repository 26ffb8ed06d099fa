"""Simulated events beside published ones of the signal window."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.training import samples
from training.__main__ import main
from training.errors import EventsError
from training.evaluation.window import OF_WINDOW, WINDOW_GEV, compare_in_window, in_window, read_window, window_table
from training.events.events import Events, read_events, write_events

ROOT = Path(__file__).parents[3]
PUBLISHED = ROOT.parent / "shared" / "lhco" / "window"


def rows(features: NDArray[np.float32], label: int) -> NDArray[np.float64]:
    """Return events (n, 14) as published arrays have them: those in the window, masses in TeV, with a label."""
    columns = np.stack(list(in_window(features).values()), axis=1) * [1e-3, 1e-3, 1e-3, 1.0, 1.0]
    return np.column_stack([columns, np.full(len(columns), float(label))])


def test_the_quantities_are_those_of_the_lighter_and_the_heavier_jet() -> None:
    """Events outside the window are left out, and the jets of the others are ordered by mass, whatever their pT."""
    features = samples.background(3000).astype(float)
    found = in_window(features)
    jets = features.reshape(-1, 2, 7)
    energy = np.sqrt((jets[..., :4] ** 2).sum(axis=-1))
    mjj = np.sqrt(energy.sum(axis=1) ** 2 - (jets[..., :3].sum(axis=1) ** 2).sum(axis=-1))
    inside = (mjj > WINDOW_GEV[0]) & (mjj < WINDOW_GEV[1])
    assert 100 < inside.sum() < 3000
    expected = []
    for event in jets[inside]:
        light, heavy = sorted(event, key=lambda jet: jet[3])
        expected.append([light[3], heavy[3] - light[3], light[5] / light[4], heavy[5] / heavy[4]])
    np.testing.assert_allclose(np.stack([found[name] for name in OF_WINDOW])[1:].T, expected, rtol=1e-6)
    np.testing.assert_allclose(found["mjj"], mjj[inside])


def test_equal_samples_agree_and_others_are_named(tmp_path: Path) -> None:
    """Events of one distribution agree in all quantities; where one is changed, that one alone does not."""
    np.save(tmp_path / "one.npy", rows(samples.background(20_000, seed=1), 0))
    np.save(tmp_path / "two.npy", rows(samples.background(20_000, seed=2), 0))
    published = read_window([tmp_path])["background"]
    simulated = in_window(samples.background(20_000, seed=3))
    assert all(one.agrees for one in compare_in_window(simulated, published))
    simulated["tau21_lighter"] = simulated["tau21_lighter"] * 1.03
    found = {one.quantity: one for one in compare_in_window(simulated, published)}
    assert [name for name, one in found.items() if not one.agrees] == ["tau21_lighter"]
    changed = found["tau21_lighter"]
    assert changed.shift == pytest.approx(np.mean(simulated["tau21_lighter"]) - np.mean(published["tau21_lighter"]))
    assert changed.distance == pytest.approx(
        abs(
            (simulated["tau21_lighter"] <= changed.where).mean() - (published["tau21_lighter"] <= changed.where).mean()
        ),
        abs=1e-3,
    )
    table = window_table(found.values())
    assert [line.split()[0] for line in table.splitlines() if "does not agree" in line] == ["tau21_lighter"]


def test_files_of_anything_else_are_refused(tmp_path: Path, subtests: pytest.Subtests) -> None:
    """The error names the file and what it was expected to hold."""
    good = rows(samples.background(500), 0)
    in_gev, odd_label, unknown = good.copy(), good.copy(), good.copy()
    in_gev[:, 0] *= 1000
    odd_label[0, -1] = 2
    unknown[3, 2] = np.nan
    wrong: list[tuple[Any, str]] = [
        (good[:, :5], r"shape \(\d+, 5\), expected numbers \(n, 6\)"),
        (good[0], "expected numbers"),
        (good.astype(str), "expected numbers"),
        (np.array([{}], object), "cannot be read as .npy"),
        (in_gev, "expected finite numbers, mjj of 3.3 to 3.7 TeV"),
        (odd_label, "0 or 1 in the last"),
        (unknown, "expected finite numbers"),
    ]
    path = tmp_path / "some.npy"
    for array, reason in wrong:
        np.save(path, array, allow_pickle=True)
        with subtests.test(msg=reason), pytest.raises(EventsError, match=reason):
            read_window([path])
    path.write_bytes(b"no array")
    with pytest.raises(EventsError, match="cannot be read"):
        read_window([path])
    path.unlink()
    with pytest.raises(EventsError, match=r"without \.npy files"):
        read_window([tmp_path])
    with pytest.raises(EventsError, match="expected at least 20"):
        compare_in_window(in_window(samples.background(10)), in_window(samples.background(500)))


@pytest.mark.slow
def test_the_command_compares_each_class_that_both_have(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tables are printed, a second figure is written, and the events compared with are not replaced."""
    write_events(tmp_path / "events.h5", Events(samples.background(2000)))
    np.save(
        tmp_path / "real.npy", np.concatenate([rows(samples.background(4000, seed=1), 0), rows(samples.signal(99), 1)])
    )
    plot, arguments = tmp_path / "plot.png", ["validate", str(tmp_path / "events.h5"), "--window", str(tmp_path)]
    assert main([*arguments, "--out", str(plot)]) == 0
    printed = capsys.readouterr().out
    assert "background in the signal window beside published events" in printed
    assert "signal in the signal window" not in printed
    assert "tau21_heavier" in printed
    assert (tmp_path / "plot_window.png").read_bytes().startswith(b"\x89PNG")
    before = (tmp_path / "real.npy").read_bytes()
    with pytest.raises(SystemExit):
        main([*arguments, "--out", str(tmp_path / "real.npy")])
    assert "expected a name that ends in .png" in capsys.readouterr().err
    assert (tmp_path / "real.npy").read_bytes() == before


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason=f"the published events of the window are not in {PUBLISHED}")
def test_the_shipped_sample_agrees_with_published_events() -> None:
    """Of background and signal alike, within what the size of the sample shows."""
    published, sample = read_window([PUBLISHED]), read_events(ROOT / "exported" / "sample.h5")
    for kind, events in (("background", sample.background), ("signal", sample.signal)):
        found = compare_in_window(in_window(events.features), published[kind])
        assert {one.quantity: one.p for one in found if not one.agrees} == {}
