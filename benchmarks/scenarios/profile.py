"""One case under py-spy, which samples the service's stacks: a flame graph, or a file for speedscope."""

import shutil
import sys
from pathlib import Path

from benchmarks.load.scoring import read_sample
from benchmarks.report import machine
from benchmarks.scenarios.cases import service_cases
from benchmarks.targets.launcher import serving
from benchmarks.targets.service import service_flags
from service.model.artefact import load_artefact
from service.model.scorer import Scorer

SECONDS = 8
SAMPLES_PER_S = 400
LAYOUTS = {".svg": "flamegraph", ".json": "speedscope"}


def run(model: str, name: str, out: Path) -> str:
    """Load the service with the case `name`, write where its time went to `out`, .svg or .json, and sum up.

    Raises RuntimeError for an unknown case or suffix, without py-spy, and for a wrong answer.
    """
    py_spy = shutil.which("py-spy", path=Path(sys.executable).parent) or shutil.which("py-spy")
    if py_spy is None:
        raise RuntimeError("profiles need py-spy: pip install py-spy")
    if out.suffix not in LAYOUTS:
        raise RuntimeError(f"{out} ends in {out.suffix!r}, expected one of {', '.join(LAYOUTS)}")
    artefact = load_artefact(model)
    cases = {case.name: case for case in service_cases(Scorer(artefact), read_sample(artefact.n_features))}
    if name not in cases:
        raise RuntimeError(f"unknown case {name}, expected one of {', '.join(cases)}")
    server_core, load_core = machine.cores()
    # As the parent of the service it needs no rights to look into it.
    record = [py_spy, "record", "--rate", str(SAMPLES_PER_S), "--format", LAYOUTS[out.suffix]]
    record += ["--output", str(out), "--"]
    with serving("service", *service_flags(model), cores=[server_core], under=record) as server:
        load, _ = cases[name].fire(server, SECONDS, load_core)
    return f"{out}: {name}, {load.requests_per_s:,.0f} requests/s under the profiler"
