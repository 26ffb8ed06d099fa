"""The options that choose an engine."""

import argparse
import sys

import pytest

from training.commands.arguments import add_engine_options, engine_of
from training.errors import PoolError
from training.jobs.engines.engine import Engine
from training.jobs.engines.local import Local, usable_cores


def chosen(*options: str) -> Engine:
    """Return the engine that options choose."""
    parser = argparse.ArgumentParser()
    add_engine_options(parser)
    return engine_of(parser.parse_args(options))


def test_the_processes_of_this_machine_are_the_default() -> None:
    """One for each core, or as many as the option says."""
    assert chosen() == Local(usable_cores())
    assert chosen("--processes", "3") == Local(3)


@pytest.mark.parametrize("engine", ["dask", "ray"])
def test_a_missing_package_is_named(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it."""
    monkeypatch.setitem(sys.modules, engine, None)
    monkeypatch.delitem(sys.modules, f"training.jobs.engines.{engine}", raising=False)
    message = rf"^--engine {engine} needs the package {engine}: pip install 'lhc-anomaly\[{engine}\]'$"
    with pytest.raises(PoolError, match=message):
        chosen("--engine", engine)


def test_an_address_is_of_its_own_engine() -> None:
    """The address of another engine is refused, rather than left out."""
    with pytest.raises(PoolError, match=r"^--scheduler is for --engine dask, and --engine is local\.$"):
        chosen("--scheduler", "tcp://head:8786")
    with pytest.raises(PoolError, match=r"^--address is for --engine ray, and --engine is local\.$"):
        chosen("--address", "head:6379")
