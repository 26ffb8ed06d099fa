"""Score a large .npy file over HTTP in pieces: events (n, 14) -> scores (n,), in memory that does not grow with n.

python batch.py http://localhost:8000 events.npy scores.npy
"""

import sys
from pathlib import Path

import numpy as np
from client import Client

EVENTS_PER_REQUEST = 10_000


def main() -> int:
    """Score the file, and write the scores once all are there."""
    url, source, target = sys.argv[1:]
    events = np.load(source, mmap_mode="r")
    client = Client(url)
    unfinished = Path(target).with_suffix(".part")
    scores = np.lib.format.open_memmap(unfinished, mode="w+", dtype="<f4", shape=(len(events),))
    models = set()
    for start in range(0, len(events), EVENTS_PER_REQUEST):
        piece = events[start : start + EVENTS_PER_REQUEST]
        scores[start : start + len(piece)], model = client.score(piece)
        models.add(model)
    if len(models) != 1:  # the model was replaced meanwhile: scores of two models do not mix
        print(f"scores of several models: {', '.join(sorted(models))}; run again", file=sys.stderr)
        return 1
    scores.flush()
    unfinished.rename(target)
    print(f"{target}: {len(events)} scores by {models.pop()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
