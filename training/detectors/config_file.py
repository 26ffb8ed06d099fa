"""Training configurations as TOML: `train --config` reads them; `train` and `show --config` write them."""

import difflib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Literal, get_origin

import msgspec

from training.errors import TrainingError
from training.files import atomic_write

CONFIG = "config.toml"
"""Name of the configuration file in a run's folder."""


def read_config(path: Path, config: type[Any]) -> dict[str, Any]:
    """Return the options that a file sets, by name, for a configuration class.

    Raises OSError, and TrainingError if the file is not TOML, for an unknown option and for a value of the wrong type.
    """
    try:
        found = tomllib.loads(path.read_text())
    except ValueError as error:
        raise TrainingError(f"{path} is not TOML: {error}") from error
    kinds = {option.name: option.type for option in fields(config)}
    return {name: _value(path, name, value, kinds) for name, value in found.items()}


def config_text(options: Mapping[str, Any]) -> str:
    """Return options, each a string, a number or a list of numbers, as TOML."""
    return "".join(f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in options.items())


def write_config(config: Any, folder: Path) -> None:
    """Write the configuration of a run into its folder, atomically."""
    with atomic_write(folder / CONFIG) as path:
        path.write_text(config_text(asdict(config)))


def _value(path: Path, name: str, value: Any, kinds: Mapping[str, Any]) -> Any:
    if name not in kinds:
        nearest = difflib.get_close_matches(name, kinds, n=1)
        hint = f"did you mean {nearest[0]}?" if nearest else f"expected some of {', '.join(kinds)}"
        raise TrainingError(f"{path}: there is no option {name!r}; {hint}")
    if get_origin(kinds[name]) is Literal:
        return value  # its range is checked with the others
    try:
        return msgspec.convert(value, kinds[name])
    except msgspec.ValidationError as error:
        raise TrainingError(f"{path}: {name} is {value!r}: {error}") from error
