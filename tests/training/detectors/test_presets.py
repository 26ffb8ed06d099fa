"""A configuration is checked as a whole, with bounds that the libraries below can work with."""

import math
import re
from dataclasses import fields, replace
from typing import Any

import pytest

from training.detectors.presets import PRESETS, TrainingConfig, check_config
from training.errors import TrainingError
from training.model_class import ModelClass

NUMBERS = [option.name for option in fields(TrainingConfig) if isinstance(option.default, int | float | tuple)]
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"seed": 5_000_000_000}, "seed is 5000000000, expected 0 to 4294967295"),
    ({"epochs": 0}, "epochs is 0, expected 1 to 1000000"),
    ({"hidden": (64, 0)}, "hidden is 64 0, expected 1 to 4096"),
    ({"hidden": (1,) * 17}, "hidden has 17 widths, expected at most 16"),
    ({"learning_rate": -1.0}, "learning_rate is -1.0, expected 1e-12 to 1000000"),
    ({"name": "my model"}, "name is 'my model', expected 1 to 100 visible ASCII characters without spaces"),
    ({"name": "Modèle"}, "name is 'Modèle', expected 1 to 100 visible ASCII"),
    ({"name": ""}, "name is '', expected 1 to 100 visible ASCII"),
    ({"feature_map": "ratios", "architecture": "quantum", "trash_qubits": 6}, "trash_qubits is 6, expected 1 to 5"),
    ({"architecture": "quantum"}, "feature_map is 'raw', expected 'ratios' for architecture 'quantum': each of its 6"),
    ({"schedule": "other"}, "schedule is 'other', expected one of constant, cosine"),
]


def test_every_preset_is_valid_and_every_number_is_bounded(subtests: pytest.Subtests) -> None:
    """Presets pass; each number has bounds, and NaN, infinities and anything beyond the bounds are refused.

    The message names option, value and expectation.
    """
    for preset in PRESETS.values():
        check_config(preset)
    for name in NUMBERS:
        for value in (-math.inf, -1e300, 1e300, math.inf, math.nan):
            wrong: Any = (value,) if name == "hidden" else value
            with (
                subtests.test(msg=f"{name} {value}"),
                pytest.raises(TrainingError, match=re.escape(f"{name} is {value}, expected")),
            ):
                check_config(replace(PRESETS["density"], **{name: wrong}))
    for changed, message in WRONG:
        with subtests.test(msg=message), pytest.raises(TrainingError, match=f"^{re.escape(message)}"):
            check_config(replace(TrainingConfig(), **changed))


def test_a_preference_put_in_by_hand_makes_another_class() -> None:
    """The shipped default says that it has a prior, and is of background alone without it; exposure tells itself."""
    assert PRESETS["density"].model_class == "background + stated prior"
    assert replace(PRESETS["density"], simplicity=0.0).model_class == "background only"
    assert replace(PRESETS["quantum"], simplicity=1.0).model_class == "background + stated prior"
    assert PRESETS["exposed"].model_class == "exposed to signals"
    assert {PRESETS[name].model_class for name in ("classic", "variational", "substructure", "quantum")} == {
        ModelClass.BACKGROUND_ONLY
    }
