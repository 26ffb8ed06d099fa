"""The argument parser of the commands, with one-line errors that suggest the nearest option."""

import argparse
import difflib
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn


class ArgumentParser(argparse.ArgumentParser):
    """A parser that prints errors on one line, without the usage."""

    def parse_args(  # type: ignore[override]  # the overloads are equivalent
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> Any:
        """Parse all arguments; end the process with status 2 for an unknown option or an invalid argument."""
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            flag = unknown[0].partition("=")[0]
            nearest = difflib.get_close_matches(flag, _options(self), n=1) if flag.startswith("-") else []
            hint = f"did you mean {nearest[0]}?" if nearest else "--help lists all"
            self.error(f"unknown {'option' if flag.startswith('-') else 'argument'} {flag}, {hint}")
        return parsed

    def error(self, message: str) -> NoReturn:
        """Print one line and end the process with status 2."""
        self.exit(2, f"{self.prog}: error: {message}\n")


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield the options of a parser and of its subcommands."""
    for action in parser._actions:
        yield from action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for subcommand in action.choices.values():
                yield from _options(subcommand)
