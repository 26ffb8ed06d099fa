"""Simulated events beside the published sample: moments, quantiles and histograms; knows no generator and no model.

python -m training validate EVENTS.h5 --out comparison.png [--reference REAL.h5]
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from training.evaluation.plots import plot_comparison
from training.evaluation.validation import RANGES, Floats, moments_table, quantiles_table, quantities
from training.events.events import read_events
from training.files import atomic_write, require_output


def main(argv: Sequence[str] | None = None, program: str = "python -m training validate") -> int:
    """Run `python -m training validate`."""
    parser = argparse.ArgumentParser(prog=program, description=__doc__.partition(";")[0])
    parser.add_argument("events", type=Path, metavar="EVENTS.h5", help="simulated events")
    parser.add_argument("--reference", type=Path, metavar="REAL.h5", help="real events with labels, to compare with")
    parser.add_argument("--out", type=Path, required=True, metavar="PLOT.png", help="histograms to write")
    parser.add_argument("--key", help="group in the HDF5 files, where they hold several")
    args = parser.parse_args(argv)
    require_output(args.out, args.events, *([args.reference] if args.reference else []))
    simulated = read_events(args.events, args.key)
    reference = read_events(args.reference, args.key) if args.reference else None
    if len(simulated.background):
        print("background moments, GeV, beside the published file's\n" + moments_table(simulated.background))
    plotted: dict[str, dict[str, Floats]] = {}
    for name in ("background", "signal"):
        parts = {"simulated": getattr(simulated, name)}
        if reference is not None:
            parts["real"] = getattr(reference, name)
        samples = {origin: quantities(part) for origin, part in parts.items() if len(part)}
        if samples:
            print(f"\n{name} quantiles, 5/50/95 %\n" + quantiles_table(samples))
            plotted |= {f"{origin} {name}": values for origin, values in samples.items()}
    with atomic_write(args.out) as path:
        plot_comparison(plotted, RANGES, path)
    print(f"\n{args.out}: histograms")
    return 0
