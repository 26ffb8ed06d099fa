"""Simulated events beside the published sample: moments, quantiles and histograms; knows no generator and no model."""

import numpy as np
from numpy.typing import NDArray

from training.events import kinematics
from training.events.events import FEATURE_NAMES, Events

Floats = NDArray[np.float64]

# Mean and standard deviation over 900 k background rows of the published features file, in GeV; the statistical error
# of each is about 0.1 % of its standard deviation.
PUBLISHED_MOMENTS = {
    "pxj1": (-0.73, 985.18), "pyj1": (2.19, 985.52), "pzj1": (0.39, 1158.05), "mj1": (210.48, 157.40),
    "tau1j1": (127.02, 131.33), "tau2j1": (55.48, 49.46), "tau3j1": (37.70, 30.37),
    "pxj2": (0.60, 863.35), "pyj2": (-2.15, 863.71), "pzj2": (-0.65, 1171.05), "mj2": (199.63, 144.33),
    "tau1j2": (119.82, 120.72), "tau2j2": (53.05, 46.52), "tau3j2": (36.26, 28.64),
}  # fmt: skip

PERCENTILES = (5, 50, 95)

# Quantity -> low and high end of its histogram, and its axis label.
RANGES = {
    f"{name} j{jet}": (low, high, title.format(jet=jet))
    for jet in (1, 2)
    for name, low, high, title in (
        ("pT", 600.0, 2400.0, "$p_T$ of jet {jet} [GeV]"),
        ("m", 0.0, 800.0, "mass of jet {jet} [GeV]"),
        ("tau2/tau1", 0.0, 1.0, r"$\tau_{{21}}$ of jet {jet}"),
        ("tau3/tau2", 0.0, 1.0, r"$\tau_{{32}}$ of jet {jet}"),
    )
} | {"mJJ": (2000.0, 6000.0, "dijet mass [GeV]")}


def quantities(events: Events) -> dict[str, Floats]:
    """Return pT, mass and subjettiness ratios of both jets and the dijet mass of events (n, 14): each (n,), GeV.

    What an event lacks counts as 0, so that a quantile is one of all events.
    """
    found = {name: np.nan_to_num(values) for name, values in kinematics.quantities(events.features).items()}
    tau = events.features.astype(np.float64).reshape(-1, 2, 7)[..., 4:]
    ratio = tau[..., 1:] / (tau[..., :-1] + 1e-5)  # a jet of one object has no subjettiness
    made: dict[str, Floats] = {}
    for jet in (1, 2):
        made |= {f"pT j{jet}": found[f"ptj{jet}"], f"m j{jet}": found[f"mj{jet}"]}
        made |= {f"tau2/tau1 j{jet}": ratio[:, jet - 1, 0], f"tau3/tau2 j{jet}": ratio[:, jet - 1, 1]}
    return made | {"mJJ": found["mjj"]}


def moments_table(background: Events) -> str:
    """Return mean and standard deviation of each feature beside those of the published file, in GeV."""
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
    """Return the 5, 50 and 95 % quantiles of each quantity, sample beside sample; masses and momenta in GeV."""
    lines = [f"{'quantity':<13}" + "".join(f"{name:>24}" for name in samples)]
    for quantity in RANGES:
        row = f"{quantity:<13}"
        for sample in samples.values():
            row += f"{'/'.join(f'{value:.4g}' for value in np.percentile(sample[quantity], PERCENTILES)):>24}"
        lines.append(row)
    return "\n".join(lines)
