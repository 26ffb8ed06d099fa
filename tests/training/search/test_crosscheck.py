"""The scan beside that of pyBumpHunter."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ks_2samp

from tests.training.search.bumphunter import ask_bumphunter
from tests.training.search.spectra import EDGES, Floats, falling
from training.search.fit import fit
from training.search.scan import WIDTHS, local_p, outside
from training.search.toys import global_p

pytestmark = [pytest.mark.slow, pytest.mark.process]

TOYS = 2000
BINS = 25  # all of them with events


def ours(counts: Floats, background: Floats, fitted: bool) -> tuple[list[slice], Floats]:
    """Return windows, those at the ends of the spectrum too, and the p-value of each in spectra (n, bins).

    Where the background is fitted, its normalisation is its only parameter.
    """
    windows = [slice(first, first + width) for width in WIDTHS for first in range(BINS - width + 1)]
    constant, p = np.full((BINS, 1), BINS**-0.5), []
    for window in windows:
        observed, expected = counts[:, window].sum(axis=1), np.full(len(counts), background[window].sum())
        if fitted:
            beside = fit(counts, background, constant, outside(window, BINS))
            expected = beside.expected[:, window].sum(axis=1)
        p.append(np.where(observed > expected, local_p(observed, expected, np.zeros(len(counts))), 1))
    return windows, np.stack(p, axis=1)


@pytest.mark.parametrize("fitted", [False, True])
def test_windows_and_p_values_are_those_of_pybumphunter(tmp_path: Path, fitted: bool) -> None:
    """Every local p-value, the window, the distribution of the statistic in toys, and the global p-value."""
    background = falling(5000)[:BINS]
    rng = np.random.default_rng(5)
    counts = rng.poisson(background)
    counts[9:12] += [8, 20, 10]
    theirs = ask_bumphunter(
        tmp_path,
        edges=EDGES[: BINS + 1],
        counts=counts,
        background=background,
        widths=np.array([WIDTHS[0], WIDTHS[-1]]),
        toys=np.array(TOYS),
        fitted=np.array(fitted),
    )
    windows, p = ours(counts[None].astype(float), background, fitted)
    np.testing.assert_allclose(p[0], theirs["p"], rtol=1e-3)
    best = windows[p[0].argmin()]
    assert [best.start, best.stop] == theirs["window"].tolist()
    toys = -np.log(ours(rng.poisson(background, (TOYS, BINS)).astype(float), background, fitted)[1].min(axis=1))
    assert ks_2samp(toys, theirs["statistic"][1:]).pvalue > 0.01
    found = global_p(float(-np.log(p[0].min())), toys)
    assert found.p == pytest.approx(float(theirs["global_p"]), abs=5 * found.error)
