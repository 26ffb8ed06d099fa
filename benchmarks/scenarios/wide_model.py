"""A model that takes its time: queues are measured with it, because to make its requests takes little of a core."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.load.scoring import SAMPLE
from training.detectors.presets import PRESETS
from training.events.events import digest, read_background
from training.fitting.export import export
from training.fitting.fit import train
from training.fitting.run import Source

WIDE = replace(PRESETS["classic"], name="wide", hidden=(256, 128), epochs=1)


def write_wide_model(path: Path) -> None:
    """Train a wide network for one epoch on the sample of events, and export it."""
    torch.set_num_threads(1)
    background = read_background(SAMPLE)
    source = Source(str(SAMPLE), None, len(background), digest(background))
    with TemporaryDirectory() as run:
        path.write_bytes(export(train(source, background, WIDE, Path(run)), background, "1").graph)
