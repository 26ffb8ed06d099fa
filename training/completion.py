"""Shell completion for `lhc-anomaly`: commands, options, choices and files.

eval "$(_LHC_ANOMALY_COMPLETE=bash_source lhc-anomaly)"

The protocol and the shell scripts are click's; this module makes argparse's parsers available to click.
"""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module

import click
from click.shell_completion import CompletionItem, shell_complete

VARIABLE = "_LHC_ANOMALY_COMPLETE"
Items = list[CompletionItem[str]]


class _Described(click.Command):
    """A click command whose arguments an argparse parser defines."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the arguments unparsed."""
        ctx.args = args
        return args

    def shell_complete(self, ctx: click.Context, incomplete: str) -> Items:
        """Return the completions of the last argument."""
        parser = import_module(f"training.commands.{self.name}").build_parser("")
        return _complete(parser, [word for word in ctx.args if word != "="], incomplete)


def complete(instruction: str, purposes: Mapping[str, str], others: Mapping[str, click.Command]) -> int:
    """Print completions, or a shell's completion script, according to click's `instruction`; return the exit status.

    `purposes` maps the names of the commands in `training.commands` to their purposes; `others` are click commands.
    """
    described = {name: _Described(name, short_help=purpose) for name, purpose in purposes.items()}
    group = click.Group("lhc-anomaly", commands={**others, **described})
    return shell_complete(group, {}, "lhc-anomaly", VARIABLE, instruction)


def _complete(parser: argparse.ArgumentParser, words: Sequence[str], incomplete: str) -> Items:
    subparsers = next((one for one in parser._actions if isinstance(one, argparse._SubParsersAction)), None)
    if subparsers is not None and words and words[0] in subparsers.choices:
        return _complete(subparsers.choices[words[0]], words[1:], incomplete)
    options = {flag: action for action in parser._actions for flag in action.option_strings}
    if incomplete.startswith("-"):
        return [CompletionItem(flag, help=one.help) for flag, one in options.items() if flag.startswith(incomplete)]
    last = max((place for place, word in enumerate(words) if word in options), default=None)
    choices: Iterable[object] | None = None if subparsers is None else subparsers.choices
    if last is not None and len(words) - last <= _most_values(options[words[last]]):
        choices = options[words[last]].choices
    return _starting(incomplete, choices) if choices else [CompletionItem(incomplete, type="file")]


def _starting(incomplete: str, choices: Iterable[object]) -> Items:
    return [CompletionItem(text) for text in map(str, choices) if text.startswith(incomplete)]


def _most_values(action: argparse.Action) -> float:
    """Return the maximum number of values of an option."""
    if isinstance(action.nargs, int):
        return action.nargs
    return 1 if action.nargs in {None, "?"} else float("inf")
