"""A profile of one case with py-spy, which samples the service's stacks: a flame graph or a speedscope file."""

import shutil
import sys
from pathlib import Path

from benchmarks.report import machine
from benchmarks.scenarios.cases import NAMES, Workload
from benchmarks.targets.service import service

SECONDS = 8
SAMPLES_PER_S = 400
LAYOUTS = {".svg": "flamegraph", ".json": "speedscope"}


def run(model: str, case: str, out: Path) -> str:
    """Load the service with a case, write where its time went to `out`, .svg or .json, and sum up.

    Raises RuntimeError for an unknown case or suffix, without py-spy, and for a wrong answer.
    """
    py_spy = shutil.which("py-spy", path=Path(sys.executable).parent) or shutil.which("py-spy")
    if py_spy is None:
        raise RuntimeError("profiles need py-spy: pip install py-spy")
    for name, value, known in (("--out", out.suffix, LAYOUTS), ("CASE", case, NAMES)):
        if value not in known:
            raise RuntimeError(f"{name} is {value!r}, expected one of {', '.join(known)}")
    workload = Workload(model)
    server_core, load_core = machine.split_cores()
    # As the parent of the service, py-spy needs no privileges to read its stacks.
    record = [py_spy, "record", "--rate", str(SAMPLES_PER_S), "--format", LAYOUTS[out.suffix]]
    record += ["--output", str(out), "--"]
    with service(model, cores=[server_core], under=record) as server:
        measured = workload.case(case).measure(server, SECONDS, load_core)
    return f"{out}: {case}, {measured.requests_per_s:,.0f} requests/s under the profiler"
