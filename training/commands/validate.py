"""Set simulated events beside the published sample: moments, quantiles and histograms.

python -m training validate EVENTS.h5 --out comparison.png [--reference REAL.h5]
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from training.evaluation.figures import draw, plot_features
from training.evaluation.validation import COMPARED, moments_table, quantiles_table
from training.events.events import read_events
from training.events.kinematics import quantities
from training.files import require_output, write_files


def main(argv: Sequence[str] | None = None, program: str = "python -m training validate") -> int:
    """Run `python -m training validate`."""
    parser = argparse.ArgumentParser(prog=program, description=__doc__.partition("\n")[0])
    parser.add_argument("events", type=Path, metavar="EVENTS.h5", help="simulated events")
    parser.add_argument("--reference", type=Path, metavar="REAL.h5", help="real events with labels, to compare with")
    parser.add_argument("--out", type=Path, required=True, metavar="PLOT.png", help="histograms to write")
    parser.add_argument("--key", help="group in the HDF5 files, where they hold several")
    parser.add_argument("--label", metavar="COLUMN", help="column of the labels in all files (default label)")
    args = parser.parse_args(argv)
    require_output(args.out, args.events, *([args.reference] if args.reference else []))
    origins = {"simulated": read_events(args.events, args.key, args.label)}
    if args.reference:
        origins["real"] = read_events(args.reference, args.key, args.label)
    background, signal = (
        {origin: quantities(part.features) for origin, events in origins.items() if len(part := getattr(events, kind))}
        for kind in ("background", "signal")
    )
    plots = {
        args.out.name: lambda: plot_features(
            {f"{origin} background": values for origin, values in background.items()},
            {f"{origin} signal": values for origin, values in signal.items()},
            COMPARED,
        )
    }
    drawn = draw(plots)
    write_files(args.out.parent, drawn)
    if len(origins["simulated"].background):
        print("background moments, GeV, beside the published file's")
        print(moments_table(origins["simulated"].background))
    for kind, samples in (("background", background), ("signal", signal)):
        if samples:
            print(f"\n{kind} quantiles, 5/50/95 %\n{quantiles_table(samples)}")
    if drawn[args.out.name] is None:
        return 1  # the warning said why
    print(f"\n{args.out}: histograms")
    return 0
