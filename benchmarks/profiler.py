"""One case under py-spy, which samples the service's stacks: a flame graph, or a file for speedscope.

It does not know what is slow.
"""

import shutil
import sys
from pathlib import Path

from benchmarks import machine, wrk
from benchmarks.cases import WrongAnswerError, all_cases
from benchmarks.servers import service_flags, serving
from benchmarks.stage import read_sample
from service.model.artefact import load_artefact
from service.model.scorer import Scorer

SECONDS = 8
SAMPLES_PER_S = 400
LAYOUTS = {".svg": "flamegraph", ".json": "speedscope"}


def profile(name: str, model: str, out: Path) -> None:
    """Load the service with the case `name` and write where its time went to `out`, by its ending .svg or .json.

    Raises SystemExit for an unknown case or ending and without py-spy, WrongAnswerError for a wrong answer.
    """
    beside_python = Path(sys.executable).parent
    py_spy = shutil.which("py-spy", path=beside_python) or shutil.which("py-spy")
    if py_spy is None:
        raise SystemExit("profiles need py-spy: pip install py-spy")
    if out.suffix not in LAYOUTS:
        raise SystemExit(f"{out} ends in {out.suffix!r}, expected one of {', '.join(LAYOUTS)}")
    artefact = load_artefact(model)
    cases = {case.name: case for case in all_cases(Scorer(artefact), read_sample(artefact))}
    if name not in cases:
        raise SystemExit(f"no case {name}, expected one of {', '.join(cases)}")
    case = cases[name]
    server_core, load_core = machine.cores()
    # As the parent of the service it needs no rights to look into it.
    record = [
        py_spy,
        "record",
        "--rate",
        str(SAMPLES_PER_S),
        "--format",
        LAYOUTS[out.suffix],
        "--output",
        str(out),
        "--",
    ]
    with serving("service", *service_flags(model), cores=[server_core], under=record) as server:
        reply = case.check(server.url)
        load = wrk.fire(
            server.url,
            case.path,
            case.headers,
            case.body,
            connections=case.connections,
            seconds=SECONDS,
            core=load_core,
        )
        case.check(server.url)
    fault = load.fault(reply.size, case.connections)
    if fault:
        raise WrongAnswerError(f"{name}: {fault}")
    print(f"{out}: {name}, {load.requests_per_s:,.0f} requests/s under the profiler")
