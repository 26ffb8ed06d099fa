"""Configurations as TOML: what is written is read back, and what no training can use is named."""

from pathlib import Path
from typing import Any

import pytest

from training.detectors.config_file import CONFIG, read_config, write_config
from training.detectors.presets import PRESETS, TrainingConfig
from training.detectors.weak_config import WeakConfig
from training.errors import TrainingError


def test_every_configuration_comes_back(tmp_path: Path) -> None:
    """Each preset, that of weak supervision and odd but possible values are the same after writing and reading."""
    odd = TrainingConfig(name='a"b\\c', hidden=(7,), kl_weight=1e-12, learning_rate=3.0)
    for config in (*PRESETS.values(), WeakConfig(), odd):
        kind: type[Any] = type(config)
        write_config(config, tmp_path)
        assert kind(**read_config(tmp_path / CONFIG, kind)) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs = ", "{} is not TOML: Invalid value"),
        ("epoch = 3", "{}: there is no option 'epoch'; did you mean epochs?"),
        ("x = 3", "{}: there is no option 'x'; expected some of name, feature_map, "),
        ("epochs = 2.5", "{}: epochs is 2.5: Expected `int`, got `float`"),
        ("hidden = [8, 'four']", "{}: hidden is [8, 'four']: Expected `int`, got `str`"),
        ("[epochs]\nmost = 3", "{}: epochs is {{'most': 3}}: Expected `int`, got `object`"),
    ],
)
def test_what_no_training_can_use_is_named(tmp_path: Path, text: str, message: str) -> None:
    """One line names the file, the option, its value and what was expected."""
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(TrainingError) as caught:
        read_config(path, TrainingConfig)
    assert str(caught.value).startswith(message.format(path))
    assert "\n" not in str(caught.value)
