"""Trainings that many tests look at, each done once."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.training.fitting.runs import CONFIGS, trained
from training.fitting.run import Run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Run, Path]]:
    """Train one of CONFIGS without interruption, the first time that it is asked for: the run and its folder."""

    @cache
    def run(name: str) -> tuple[Run, Path]:
        folder = tmp_path_factory.mktemp("finished") / name
        return trained(folder, CONFIGS[name]), folder

    return run
