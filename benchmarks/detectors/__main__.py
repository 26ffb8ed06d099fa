"""Compare the presets with public detectors, on the same events.

python -m benchmarks.detectors TRAIN.h5 TEST.h5 SIGNAL.h5 ... --exposure COCKTAIL.h5 --out DIR
"""

import sys

from training.__main__ import RESUMABLE, Command, run

if __name__ == "__main__":
    command = Command("our presets beside public detectors, on the same events", "compare", RESUMABLE)
    sys.exit(run("benchmarks.detectors.compare", command, sys.argv[1:], "python -m benchmarks.detectors"))
