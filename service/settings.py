"""The service's settings: one table of names, types, defaults and meanings, read from flags and the environment.

It does not know what the settings are used for, and looks at no environment but the one that it is given.
"""

import argparse
import difflib
from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Literal, NoReturn, Union, get_args, get_origin

import msgspec
from msgspec import Meta

PREFIX = "ANOMALY_"
PROGRAM = "python -m service"

Count = Annotated[int, Meta(ge=1)]
Seconds = Annotated[int, Meta(ge=0, le=86_400)]
Deadline = Annotated[int, Meta(ge=1, le=86_400)]
Port = Annotated[int, Meta(ge=0, le=65_535)]
Text = Annotated[str, Meta(min_length=1)]
Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator may choose; each field is a flag, an environment variable, a default and a meaning."""

    host: Annotated[Text, Meta(description="Address or name to listen on.")] = "127.0.0.1"
    port: Annotated[Port, Meta(description="TCP port to listen on; 0 takes a free one.")] = 8000
    model: Annotated[Text, Meta(description="Path of the exported model.")] = "exported/autoencoder.onnx"
    workers: Annotated[
        int, Meta(ge=0, le=1024, description="Server processes; 0 is one for each core that it may use.")
    ] = 0
    ops_port: Annotated[
        Port | None,
        Meta(
            description="TCP port for /health, /metrics and /model alone, which then are not on the other but /health."
        ),
    ] = None
    model_sha256: Annotated[
        Digest | None,
        Meta(description="SHA-256 that the model's file must have, in hexadecimal digits."),
    ] = None
    max_model_bytes: Annotated[Count, Meta(description="Largest model file in bytes.")] = 256 * 2**20
    watch_s: Annotated[
        Seconds, Meta(description="Seconds between looks for changed files to load; 0 looks at SIGHUP alone.")
    ] = 0
    api_keys: Annotated[
        Text | None,
        Meta(description="File of hashed API keys; each request but to /health must then have one."),
    ] = None
    tls_certificate: Annotated[
        Text | None, Meta(description="PEM file of the certificate chain to serve HTTPS with.")
    ] = None
    tls_key: Annotated[Text | None, Meta(description="PEM file of the certificate's private key.")] = None
    tls_client_ca: Annotated[
        Text | None,
        Meta(description="PEM file of the authorities that clients' certificates must come from."),
    ] = None
    max_body_bytes: Annotated[Count, Meta(description="Largest request body in bytes; more is a 413.")] = 64 * 2**20
    max_events: Annotated[Count, Meta(description="Most events in a request; more is a 413.")] = 2**21
    max_header_bytes: Annotated[Count, Meta(description="Largest request head in bytes; more is a 431.")] = 16 * 2**10
    max_url_bytes: Annotated[Count, Meta(description="Longest URL in bytes; more is a 414.")] = 4 * 2**10
    max_inflight_events: Annotated[
        Count, Meta(description="Events in flight in a worker above which further requests get a 503.")
    ] = 2**22
    max_inflight_bytes: Annotated[
        Count, Meta(description="Bytes of bodies in flight in a worker above which further requests get a 503.")
    ] = 256 * 2**20
    max_connections: Annotated[
        Count,
        Meta(description="Connections of a worker above which requests to score on further ones get a 503."),
    ] = 4096
    header_s: Annotated[Deadline, Meta(description="Seconds that a request's head may take to arrive.")] = 10
    stall_s: Annotated[
        Deadline, Meta(description="Seconds without a byte of a body coming, or of a reply being taken.")
    ] = 10
    request_s: Annotated[
        Deadline, Meta(description="Seconds that a request may take from its first byte to its reply.")
    ] = 120
    log_level: Annotated[
        Literal["critical", "error", "warning", "info", "debug"], Meta(description="Least severe lines to log.")
    ] = "info"
    access_log: Annotated[bool, Meta(description="Log a line for each request.")] = False
    keep_alive_s: Annotated[Seconds, Meta(description="Seconds after which an idle connection is closed.")] = 75
    drain_s: Annotated[
        Seconds, Meta(description="Seconds after SIGTERM of scoring on, with /health at 503, before closing.")
    ] = 0
    shutdown_s: Annotated[Seconds, Meta(description="Seconds that requests in flight may take once closing.")] = 30


NEEDED = {"tls_certificate": "tls_key", "tls_key": "tls_certificate", "tls_client_ca": "tls_certificate"}
"""What makes no sense without another."""


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
    for name, needed in NEEDED.items():
        if name in values and needed not in values:
            parser.error(f"{_flag(name)} needs {_flag(needed)}: give both, or neither")
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
    return "none" if default is None else str(default).lower() if isinstance(default, bool) else str(default)


def _type(field: msgspec.structs.FieldInfo) -> tuple[Any, dict[str, Any]]:
    """Find the bare type of a field's values, and what the annotations around it say, the outer over the inner."""
    bare: Any = field.type
    said: dict[str, Any] = {}
    while metadata := getattr(bare, "__metadata__", ()):
        for meta in metadata:
            given = {key: getattr(meta, key) for key in ("ge", "le", "pattern", "description")}
            said = {**{key: value for key, value in given.items() if value is not None}, **said}
        bare = bare.__origin__
        if isinstance(bare, UnionType) or get_origin(bare) is Union:
            [bare] = [option for option in get_args(bare) if option is not type(None)]
    return bare, said


def _meaning(field: msgspec.structs.FieldInfo) -> str:
    return str(_type(field)[1]["description"])


def _choices(field: msgspec.structs.FieldInfo) -> tuple[str, ...]:
    bare, _ = _type(field)
    return get_args(bare) if get_origin(bare) is Literal else ()


def _expected(field: msgspec.structs.FieldInfo) -> str:
    bare, said = _type(field)
    if choices := _choices(field):
        return f"one of {', '.join(choices)}"
    if bare is bool:
        return "true or false"
    if "pattern" in said:
        return "64 hexadecimal digits"
    if bare is str:
        return "a text that is not empty"
    return (
        f"a whole number from {said['ge']} to {said['le']}"
        if "le" in said
        else f"a whole number of at least {said['ge']}"
    )
