"""pyBumpHunter, in its own environment: arrays in, arrays out.

python -m tests.training.search.bumphunter GIVEN.npz FOUND.npz
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

ROOT = Path(__file__).parents[3]
PYTHON = ROOT / "build" / "crosscheck" / "bin" / "python"
TIMEOUT_S = 120


def ask_bumphunter(folder: Path, **given: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
    """Return what pyBumpHunter finds in counts (bins,) between edges (bins + 1,), beside background (bins,).

    `widths` are the smallest and the largest window in bins, `toys` their number, `fitted` whether the background of a
    window is normalised to what lies beside it. Skips the test where pyBumpHunter is not installed.
    """
    if not PYTHON.exists():
        pytest.skip("pyBumpHunter is not installed: make build/crosscheck/ready")
    files = [folder / "given.npz", folder / "found.npz"]
    np.savez(files[0], allow_pickle=False, **given)
    command = [str(PYTHON), "-m", "tests.training.search.bumphunter", *map(str, files)]
    subprocess.run(command, cwd=ROOT, timeout=TIMEOUT_S, check=True, stdout=subprocess.DEVNULL)
    with np.load(files[1]) as found:
        return dict(found)


def main(given: str, found: str) -> None:
    """Answer a test's question."""
    import pyBumpHunter

    with np.load(given) as arrays:
        asked = dict(arrays)
    narrowest, widest = map(int, asked["widths"])
    hunter = pyBumpHunter.BumpHunter1D(
        rang=[float(asked["edges"][0]), float(asked["edges"][-1])],
        width_min=narrowest,
        width_max=widest,
        bins=asked["edges"],
        npe=int(asked["toys"]),
        nworker=1,
        seed=1,
        use_sideband=bool(asked["fitted"]),
    )
    hunter.bump_scan(asked["counts"], asked["background"], is_hist=True)
    np.savez(
        found,
        p=np.concatenate(hunter.res_ar),  # by width, then by place
        window=[hunter.min_loc_ar[0], hunter.min_loc_ar[0] + hunter.min_width_ar[0]],
        statistic=hunter.t_ar,  # of the data, then of the toys
        global_p=hunter.global_Pval,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
