"""The parser of a command's arguments: what is wrong with them is one line, which names the nearest option."""

import argparse
import difflib
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn


class ArgumentParser(argparse.ArgumentParser):
    """A parser whose errors are as short as those of the service; --help has the usage."""

    def parse_args(  # type: ignore[override]  # whose overloads say the same
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> Any:
        """Parse all arguments; ends the process with status 2 where an option is unknown or an argument is wrong."""
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            flag = unknown[0].partition("=")[0]
            nearest = difflib.get_close_matches(flag, _options(self), n=1) if flag.startswith("-") else []
            hint = f"did you mean {nearest[0]}?" if nearest else "--help lists all"
            self.error(f"unknown {'option' if flag.startswith('-') else 'argument'} {flag}, {hint}")
        return parsed

    def error(self, message: str) -> NoReturn:
        """Print one line, and end the process with status 2."""
        self.exit(2, f"{self.prog}: error: {message}\n")


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Name the options of a parser, and of its subcommands."""
    for action in parser._actions:
        yield from action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for subcommand in action.choices.values():
                yield from _options(subcommand)
