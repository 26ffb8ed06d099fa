"""Made-up events for tests: correlated numbers shaped like the features of jets, at no cost.

It knows no physics beyond their rough size.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.events.events import BACKGROUND, SIGNAL, Events, write_events


def jets(events: int, seed: int, mass_gev: float, tau_share: float) -> NDArray[np.float32]:
    """Draw events of two back-to-back jets: (events, 14) features in GeV."""
    rng = np.random.default_rng(seed)
    pt = 1200.0 + rng.exponential(200.0, (events, 2))
    pt.sort(axis=1)
    phi = rng.uniform(-np.pi, np.pi, events)[:, None] + np.array([0.0, np.pi])
    mass = mass_gev * np.exp(0.6 * rng.standard_normal((events, 2)))
    tau = 0.6 * mass * np.exp(0.2 * rng.standard_normal((events, 2)))
    columns = [pt[:, ::-1] * np.cos(phi), pt[:, ::-1] * np.sin(phi), rng.normal(0, 1200, (events, 2)), mass, tau]
    for _ in range(2):
        tau = tau * tau_share * rng.uniform(0.5, 1.3, (events, 2))
        columns.append(tau)
    return np.stack(columns, axis=-1).reshape(events, 14).astype(np.float32)


def background(events: int, seed: int = 0) -> NDArray[np.float32]:
    """Draw ordinary events: (events, 14)."""
    return jets(events, seed, mass_gev=160.0, tau_share=0.6)


def signal(events: int, seed: int = 0) -> NDArray[np.float32]:
    """Draw heavier and simpler jets: (events, 14)."""
    return jets(events, seed + 1_000_000, mass_gev=350.0, tau_share=0.3)


def degenerate() -> NDArray[np.float32]:
    """Return rows that published files have: masses of 0 and below, taus of 0, no second jet, nothing at all."""
    rows = background(6, seed=99)
    rows[0, [3, 10]] = 0.0
    rows[1, [3, 10]] = -3e-5
    rows[2, 11:] = 0.0
    rows[3, 4:7] = 0.0
    rows[4, 7:] = 0.0
    rows[5] = 0.0
    return rows


def mixed(n_background: int, n_signal: int, seed: int = 0) -> Events:
    """Return labelled events of both kinds, shuffled: the background in the order of `background`."""
    labels = np.repeat([BACKGROUND, SIGNAL], [n_background, n_signal]).astype(np.int8)
    np.random.default_rng(seed).shuffle(labels)
    features = np.empty((len(labels), 14), np.float32)
    features[labels == BACKGROUND] = background(n_background, seed)
    features[labels == SIGNAL] = signal(n_signal, seed)
    return Events(features, labels)


def written(path: Path, features: NDArray[np.float32]) -> Path:
    """Write events without labels, and give the path."""
    write_events(path, Events(features))
    return path


def labelled(path: Path, features: NDArray[np.float32], label: int) -> Path:
    """Write events that all have one label, and give the path."""
    write_events(path, Events(features, np.full(len(features), label, np.int8)))
    return path
