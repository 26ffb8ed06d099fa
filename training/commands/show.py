"""Show the metadata of a model: features, working points, training.

python -m training show MODEL.onnx
python -m training show MODEL.onnx --config > mine.toml
"""

import argparse
from collections.abc import Sequence

from service import SHIPPED_MODEL
from training.commands.arguments import input_file
from training.commands.parser import ArgumentParser


def main(argv: Sequence[str] | None = None, program: str = "python -m training show") -> int:
    """Run `python -m training show`."""
    args = build_parser(program).parse_args(argv)

    from service.model.artefact import load_artefact
    from training.detectors.config_file import config_text
    from training.errors import TrainingError
    from training.evaluation.facts import as_json, as_text

    artefact = load_artefact(args.model)
    configuration = artefact.metadata.training.get("configuration")
    if not args.config:
        text = as_json(artefact) if args.json else as_text(artefact)
    elif isinstance(configuration, dict):
        text = config_text(configuration)
    else:
        raise TrainingError(f"{args.model} states no configuration: another program made it")
    print(text, end="")
    return 0


def build_parser(program: str) -> argparse.ArgumentParser:
    """Declare the arguments."""
    parser = ArgumentParser(prog=program, description=__doc__.partition("\n")[0])
    meaning = "artefact to show (default: the shipped one)"
    parser.add_argument("model", type=input_file, nargs="?", default=SHIPPED_MODEL, metavar="MODEL.onnx", help=meaning)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print the metadata without the golden pairs, as JSON")
    form.add_argument(
        "--config", action="store_true", help="print only the configuration, as TOML for `train --config`"
    )
    return parser
