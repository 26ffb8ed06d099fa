"""Other ways to serve the same graph, and our own, under the same load in one run: benchmarks/results/peers.json.

    python -m benchmarks.peers
    python -m benchmarks.peers --only fastapi_onnx mlserver --rounds 1

Each peer gets an environment of its own, one worker and one core; wrk has the other core. All are started at first, and
all but one stand still: they take turns. It does not know what any peer is or how it is asked.
"""

import argparse
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from benchmarks import machine
from benchmarks.peers import NAMES
from benchmarks.peers.contest import CONNECTIONS, Contest
from benchmarks.peers.results import OURS, Results, with_ratios
from benchmarks.peers.table import render
from service.model.artefact import load_artefact
from service.model.scorer import Scorer
from training.events.events import read_events
from training.files import atomic_write

RESULTS = Path(__file__).parents[1] / "results" / "peers.json"
SAMPLE = Path("exported/sample.h5")
BATCH_EVENTS = 10_000


def main(argv: Sequence[str] | None = None) -> int:
    """Run the contest, write its results and print the table; gives 1 if a peer failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="exported/autoencoder.onnx", help="artefact (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each peer (default: 5)")
    parser.add_argument("--seconds", type=int, default=3, help="length of a case in a turn (default: 3)")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="PEER", help=", ".join(NAMES))
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the results go (default: benchmarks/results/)")
    args = parser.parse_args(argv)
    scorer = Scorer(load_artefact(args.model))
    events = np.resize(read_events(SAMPLE).features, (BATCH_EVENTS, scorer.artefact.n_features))
    with Contest(str(Path(args.model).resolve()), events, scorer.score(events), machine.cores()) as contest:
        for name in (OURS, *args.only):
            print(f"{name}: install, start, warm up", flush=True)
            contest.admit(name)
        for played in range(args.rounds):
            print(f"round {played + 1} of {args.rounds}", flush=True)
            contest.play_round(args.seconds)
    results = Results(
        command=" ".join(["python -m benchmarks.peers", *(sys.argv[1:] if argv is None else argv)]),
        commit=machine.commit(),
        model=scorer.artefact.identity,
        machine=machine.describe(),
        python=platform.python_version(),
        rounds=args.rounds,
        seconds=args.seconds,
        batch_events=BATCH_EVENTS,
        connections=CONNECTIONS,
        peers=with_ratios(contest.results()),
    )
    with atomic_write(args.out) as path:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(results)) + b"\n")
    print(render(results))
    return 1 if contest.failures else 0


if __name__ == "__main__":
    sys.exit(main())
