"""Compare simulated events with the published sample: moments, quantiles and histograms.

python -m training validate EVENTS.h5 --out comparison.png [--reference REFERENCE.h5] [--window FOLDER]
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from training.commands.arguments import add_events_options, input_file, labels_of, layout_of
from training.commands.parser import ArgumentParser


def main(argv: Sequence[str] | None = None, program: str = "python -m training validate") -> int:
    """Run `python -m training validate`."""
    parser = build_parser(program)
    args = parser.parse_args(argv)

    from training.evaluation.figures import draw, plot_features, plot_window
    from training.evaluation.style import FORMATS
    from training.evaluation.validation import COMPARED, moments_table, quantiles_table
    from training.evaluation.window import compare_in_window, in_window, read_window, window_table
    from training.events.events import read_events
    from training.events.kinematics import quantities
    from training.files import require_output, write_files

    files = {"simulated": args.events} | ({"reference": args.reference} if args.reference else {})
    labels = labels_of(parser, args.labels, len(files))
    if args.out.suffix not in FORMATS:
        parser.error(f"--out is {args.out}, expected a name that ends in {', '.join(FORMATS)}")
    window_out = args.out.with_stem(f"{args.out.stem}_window")
    require_output(args.out, *files.values(), *labels)
    if args.window:
        require_output(window_out, *files.values(), *labels, *args.window)
    origins = {
        origin: read_events(path, layout_of(args), label_file)
        for (origin, path), label_file in zip(files.items(), labels, strict=True)
    }
    background, signal = (
        {origin: quantities(part.features) for origin, events in origins.items() if len(part := getattr(events, kind))}
        for kind in ("background", "signal")
    )
    published = read_window(args.window) if args.window else {}
    windows = {
        kind: (in_window(simulated.features), published[kind])
        for kind in published
        if len(simulated := getattr(origins["simulated"], kind)) and len(published[kind]["mjj"])
    }
    agreements = {kind: compare_in_window(*some) for kind, some in windows.items()}
    plots = {
        args.out.name: lambda: plot_features(
            {f"{origin} background": values for origin, values in background.items()},
            {f"{origin} signal": values for origin, values in signal.items()},
            COMPARED,
        ),
        **({window_out.name: lambda: plot_window(windows)} if windows else {}),
    }
    drawn = draw(plots)
    write_files(args.out.parent, {name: figure for name, figure in drawn.items() if figure is not None})
    if len(origins["simulated"].background):
        print("background moments, GeV, beside the published file's")
        print(moments_table(origins["simulated"].background))
    for kind, samples in (("background", background), ("signal", signal)):
        if samples:
            print(f"\n{kind} quantiles, 5/50/95 %\n{quantiles_table(samples)}")
    for kind, found in agreements.items():
        print(f"\n{kind} in the signal window beside published events\n{window_table(found)}")
    if None in drawn.values():
        return 1  # the warning said why
    print("\n" + "\n".join(f"{args.out.parent / name}: histograms" for name in drawn))
    return 0


def build_parser(program: str) -> argparse.ArgumentParser:
    """Declare the arguments."""
    parser = ArgumentParser(prog=program, description=__doc__.partition("\n")[0])
    parser.add_argument("events", type=input_file, metavar="EVENTS.h5", help="simulated events")
    parser.add_argument("--reference", type=input_file, metavar="REFERENCE.h5", help="labelled events to compare with")
    parser.add_argument(
        "--window",
        type=input_file,
        nargs="+",
        metavar="PATH",
        help="published events of the signal window to compare with in a second figure: .npy files or folders of them",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="PLOT.png", help="histograms to write, as .png, .pdf or .svg"
    )
    add_events_options(parser, "EVENTS.h5 and REFERENCE.h5", several=True)
    return parser
