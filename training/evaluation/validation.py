"""Comparison of simulated events with the published sample: moments and quantiles."""

import numpy as np
from numpy.typing import NDArray

from training.events.events import FEATURE_NAMES, Events
from training.events.kinematics import AXIS_LABELS

Floats = NDArray[np.float64]

# Mean and standard deviation over 900 k background rows of the published features file, in GeV; the statistical error
# of each is about 0.1 % of its standard deviation.
PUBLISHED_MOMENTS = {
    "pxj1": (-0.73, 985.18), "pyj1": (2.19, 985.52), "pzj1": (0.39, 1158.05), "mj1": (210.48, 157.40),
    "tau1j1": (127.02, 131.33), "tau2j1": (55.48, 49.46), "tau3j1": (37.70, 30.37),
    "pxj2": (0.60, 863.35), "pyj2": (-2.15, 863.71), "pzj2": (-0.65, 1171.05), "mj2": (199.63, 144.33),
    "tau1j2": (119.82, 120.72), "tau2j2": (53.05, 46.52), "tau3j2": (36.26, 28.64),
}  # fmt: skip


# Compared quantities, with axis labels.
COMPARED = {
    name: AXIS_LABELS[name]
    for name in (*(f"{name}j{jet}" for jet in (1, 2) for name in ("pt", "m", "tau21", "tau32")), "mjj")
}


def moments_table(background: Events) -> str:
    """Return a table of mean and standard deviation of each feature and those of the published file, in GeV."""
    lines = [f"{'feature':<8} {'mean':>9} {'error':>7} {'published':>10} {'std':>9} {'published':>10} {'ratio':>7}"]
    for column, name in enumerate(FEATURE_NAMES):
        values = background.features[:, column].astype(np.float64)
        mean, deviation = PUBLISHED_MOMENTS[name]
        error = values.std() / np.sqrt(len(values))
        lines.append(
            f"{name:<8} {values.mean():9.2f} {error:7.2f} {mean:10.2f} {values.std():9.2f} {deviation:10.2f} "
            f"{values.std() / deviation:7.3f}"
        )
    return "\n".join(lines)


def quantiles_table(samples: dict[str, dict[str, Floats]]) -> str:
    """Return a table of the 5, 50 and 95 % quantiles of each quantity by sample; masses and momenta in GeV.

    Events that lack a quantity (NaN) are ignored.
    """
    lines = [f"{'quantity':<13}" + "".join(f"{name:>24}" for name in samples)]
    for quantity in COMPARED:
        known = [values[quantity][~np.isnan(values[quantity])] for values in samples.values()]
        quantiles = ["/".join(f"{one:.4g}" for one in np.percentile(v, (5, 50, 95))) if len(v) else "-" for v in known]
        lines.append(f"{quantity:<13}" + "".join(f"{text:>24}" for text in quantiles))
    return "\n".join(lines)
