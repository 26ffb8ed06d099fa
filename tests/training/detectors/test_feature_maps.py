"""Feature maps give the quantities that their names say, for any event."""

import numpy as np
import pytest
import torch

from tests.training.detectors.oracle import EVENTS, slow_map
from training.detectors.feature_maps import FEATURE_MAPS, Jets, Ratios, RawFeatures, Substructure
from training.events.events import FEATURE_NAMES


@pytest.mark.parametrize("name", FEATURE_MAPS)
def test_the_feature_map_is_the_slow_one(name: str) -> None:
    """Raw features pass unchanged; substructure is four logarithms for each jet, jets five, ratios three."""
    feature_map, features = FEATURE_MAPS[name](), torch.from_numpy(EVENTS)
    expected = [slow_map(event, name) for event in EVENTS.astype(np.float64).tolist()]
    mapped = feature_map(features)
    assert mapped.shape == (len(EVENTS), len(feature_map.names))
    np.testing.assert_allclose(mapped, expected, rtol=1e-5, atol=1e-5)
    origin = torch.linspace(-2.0, 3.0, len(feature_map.names))
    torch.testing.assert_close(feature_map(features, origin), mapped - origin, rtol=1e-6, atol=1e-5)


def test_features_are_named_in_order() -> None:
    """The map's names say which column is which: one jet after the other."""
    assert RawFeatures.names == FEATURE_NAMES
    assert Substructure.names == (
        *("ln_mj1", "ln_tau1j1", "ln_tau21j1", "ln_tau32j1"),
        *("ln_mj2", "ln_tau1j2", "ln_tau21j2", "ln_tau32j2"),
    )
    assert Jets.names == (
        *("ln_m_ptj1", "ln_tau1_mj1", "ln_tau21j1", "ln_tau32j1", "ln_ptj1"),
        *("ln_m_ptj2", "ln_tau1_mj2", "ln_tau21j2", "ln_tau32j2", "ln_ptj2"),
    )
    assert Ratios.names == (
        *("ln_m_ptj1", "ln_tau21j1", "ln_tau32j1"),
        *("ln_m_ptj2", "ln_tau21j2", "ln_tau32j2"),
    )
