"""The service's settings: one table of names, types, defaults and meanings, read from flags and the environment.

It does not know what the settings are used for, and looks at no environment but the one that it is given.
"""

import argparse
import difflib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NoReturn, get_args

import msgspec
from msgspec import Meta

PREFIX = "ANOMALY_"
PROGRAM = "python -m service"

Count = Annotated[int, Meta(ge=1)]
Seconds = Annotated[int, Meta(ge=0, le=86_400)]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator may choose; each field is a flag, an environment variable, a default and a meaning."""

    host: Annotated[str, Meta(min_length=1, description="Address or name to listen on.")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535, description="TCP port to listen on; 0 takes a free one.")] = 8000
    model: Annotated[str, Meta(min_length=1, description="Path of the exported model.")] = "exported/autoencoder.onnx"
    workers: Annotated[
        int, Meta(ge=0, le=1024, description="Server processes; 0 is one for each core that it may use.")
    ] = 0
    max_body_bytes: Annotated[Count, Meta(description="Largest request body in bytes; more is a 413.")] = 64 * 2**20
    log_level: Annotated[
        Literal["critical", "error", "warning", "info", "debug"], Meta(description="Least severe lines to log.")
    ] = "info"
    access_log: Annotated[bool, Meta(description="Log a line for each request.")] = False
    keep_alive_s: Annotated[Seconds, Meta(description="Seconds after which an idle connection is closed.")] = 75
    drain_s: Annotated[
        Seconds, Meta(description="Seconds after SIGTERM of scoring on, with /health at 503, before closing.")
    ] = 0
    shutdown_s: Annotated[Seconds, Meta(description="Seconds that requests in flight may take once closing.")] = 30


def parse_settings(argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """Read the settings: a flag in `argv` beats a variable in `environ`, which beats the default.

    Prints one line and exits with 2 for an unknown flag or `ANOMALY_` variable, and for a wrong value of either.
    """
    parser = _parser()
    flags = vars(parser.parse_args(argv))
    known = set(map(_variable, Settings.__struct_fields__))
    for variable in environ:
        if variable.startswith(PREFIX) and variable not in known:
            nearest = difflib.get_close_matches(variable.removeprefix(PREFIX).lower(), Settings.__struct_fields__, n=1)
            hint = f"did you mean {_variable(nearest[0])}?" if nearest else "see --help for the known ones"
            parser.error(f"unknown environment variable {variable}; {hint}")
    values: dict[str, Any] = {}
    for field in msgspec.structs.fields(Settings):
        source, text = _flag(field.name), flags[field.name]
        if text is None:
            source, text = _variable(field.name), environ.get(_variable(field.name))
        if text is None:
            continue
        try:
            values[field.name] = msgspec.convert(text, field.type, strict=False)
        except msgspec.ValidationError:
            parser.error(f"{source} is {text!r}, expected {_expected(field)}")
    return Settings(**values)


def settings_table() -> str:
    """Render the settings as a Markdown table: flag, variable, default and meaning."""
    rows = [
        f"| `{_flag(field.name)}` | `{_variable(field.name)}` | `{_shown(field.default)}` | {_meaning(field)} |"
        for field in msgspec.structs.fields(Settings)
    ]
    return "\n".join(["| flag | variable | default | meaning |", "|---|---|---|---|", *rows])


class _Parser(argparse.ArgumentParser):
    """argparse with its error on one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def _parser() -> _Parser:
    parser = _Parser(
        prog=PROGRAM,
        description="Score events over HTTP with an exported model.",
        epilog="A flag beats its environment variable, which beats the default.",
        allow_abbrev=False,
    )
    for field in msgspec.structs.fields(Settings):
        text = f"{_meaning(field)} (default: {_shown(field.default)}; environment: {_variable(field.name)})"
        if isinstance(field.default, bool):
            parser.add_argument(
                _flag(field.name), dest=field.name, action=argparse.BooleanOptionalAction, default=None, help=text
            )
        else:
            metavar = "|".join(_choices(field)) or field.name.upper()
            parser.add_argument(_flag(field.name), dest=field.name, metavar=metavar, help=text)
    return parser


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def _shown(default: object) -> str:
    return str(default).lower() if isinstance(default, bool) else str(default)


def _meta(field: msgspec.structs.FieldInfo) -> dict[str, Any]:
    """Merge the field's nested annotations, the outer over the inner."""
    return {
        key: value
        for meta in field.type.__metadata__
        for key in ("ge", "le", "description")
        if (value := getattr(meta, key)) is not None
    }


def _meaning(field: msgspec.structs.FieldInfo) -> str:
    return str(_meta(field)["description"])


def _choices(field: msgspec.structs.FieldInfo) -> tuple[str, ...]:
    return get_args(field.type.__origin__)


def _expected(field: msgspec.structs.FieldInfo) -> str:
    if choices := _choices(field):
        return f"one of {', '.join(choices)}"
    if isinstance(field.default, bool):
        return "true or false"
    if isinstance(field.default, str):
        return "a text that is not empty"
    meta = _meta(field)
    return (
        f"a whole number from {meta['ge']} to {meta['le']}"
        if "le" in meta
        else f"a whole number of at least {meta['ge']}"
    )
