"""The service's settings: one table of names, types, defaults and meanings, read from flags and the environment."""

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import click
import msgspec
from click.core import ParameterSource

from service import SHIPPED_MODEL

PREFIX = "ANOMALY_"
PROGRAM = "python -m service"
EPILOG = "A flag beats its environment variable, which beats the default."
HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}


class Digest(click.ParamType[str]):
    """A SHA-256 in hexadecimal digits."""

    name = "digest"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Refuse anything but 64 digits."""
        return value if re.fullmatch("[0-9a-f]{64}", value) else self.fail("no digest", param, ctx)


class RootPath(click.ParamType[str]):
    """A path that starts with a slash and does not end with one."""

    name = "path"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Refuse a path that would need escapes in a page."""
        return value if re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", value) else self.fail("no path", param, ctx)


class ServedName(click.ParamType[str]):
    """A name that needs no escapes in a URL."""

    name = "name"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Refuse any other characters, an empty name and one of more than 100 characters."""
        return value if re.fullmatch("[A-Za-z0-9._~-]{1,100}", value) else self.fail("no name", param, ctx)


TEXT = click.STRING
FILE = click.Path()
SWITCH = click.BOOL
DIGEST = Digest()
ROOT_PATH = RootPath()
SERVED_NAME = ServedName()
COUNT = click.IntRange(min=1)
WORKERS = click.IntRange(0, 1024)
PORT = click.IntRange(0, 65_535)
SECONDS = click.IntRange(0, 86_400)
TIMEOUT = click.IntRange(1, 86_400)
LEVEL = click.Choice(["critical", "error", "warning", "info", "debug"])


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of an operator; each field is a flag, an environment variable, a default and a meaning."""

    host: Annotated[str, TEXT, "Address or host name to listen on."] = "127.0.0.1"
    port: Annotated[int, PORT, "TCP port to listen on; 0 picks a free one."] = 8000
    uds: Annotated[str | None, FILE, "Path of a Unix domain socket to listen on instead of --host and --port."] = None
    model: Annotated[str, FILE, "Path of the exported model; by default the shipped one."] = "exported/autoencoder.onnx"
    workers: Annotated[int, WORKERS, "Number of worker processes; 0 starts one per usable core."] = 0
    ops_port: Annotated[int | None, PORT, "Separate port for /, /model and /metrics; it also has /health."] = None
    ops_host: Annotated[str | None, TEXT, "Address or host name of --ops-port; by default that of --host."] = None
    grpc_port: Annotated[int | None, PORT, "Port for the Open Inference Protocol over gRPC; needs the extra grpc."] = (
        None
    )
    served_name: Annotated[str | None, SERVED_NAME, "Model name in /v2; by default the one in the model file."] = None
    model_sha256: Annotated[str | None, DIGEST, "Required SHA-256 of the model file, in hexadecimal digits."] = None
    max_model_bytes: Annotated[int, COUNT, "Maximum size of the model file in bytes."] = 256 * 2**20
    watch_s: Annotated[int, SECONDS, "Polling interval for changed files in seconds; 0 reloads only at SIGHUP."] = 0
    reload_any_model: Annotated[bool, SWITCH, "Reload models with other features or missing working points."] = False
    api_keys: Annotated[
        str | None, FILE, "File of hashed API keys; requires one on all routes except health checks."
    ] = None
    tls_certificate: Annotated[str | None, FILE, "PEM file of the certificate chain; enables HTTPS."] = None
    tls_key: Annotated[str | None, FILE, "PEM file of the certificate's private key."] = None
    tls_client_ca: Annotated[str | None, FILE, "PEM file of CAs; requires client certificates issued by them."] = None
    max_body_bytes: Annotated[int, COUNT, "Maximum size of a request body in bytes; larger ones get 413."] = 64 * 2**20
    max_events: Annotated[int, COUNT, "Maximum number of events in a request; more get 413."] = 2**21
    max_header_bytes: Annotated[int, COUNT, "Maximum size of a request head in bytes; larger ones get 431."] = (
        16 * 2**10
    )
    max_url_bytes: Annotated[int, COUNT, "Maximum length of a URL in bytes; longer ones get 414."] = 4 * 2**10
    max_inflight_events: Annotated[int, COUNT, "Maximum events in flight per worker; further requests get 503."] = 2**22
    max_inflight_bytes: Annotated[int, COUNT, "Maximum bytes in flight per worker; further requests get 503."] = (
        256 * 2**20
    )
    max_connections: Annotated[int, COUNT, "Maximum connections per worker; scoring requests on others get 503."] = 4096
    header_s: Annotated[int, TIMEOUT, "Timeout in seconds for receiving a request head."] = 10
    stall_s: Annotated[int, TIMEOUT, "Timeout in seconds without progress of a request body or a response."] = 10
    request_s: Annotated[int, TIMEOUT, "Timeout in seconds for a request, from its first byte to its response."] = 120
    log_level: Annotated[str, LEVEL, "Minimum severity of the lines to log."] = "info"
    access_log: Annotated[bool, SWITCH, "Log a line for each request."] = False
    forwarded_for: Annotated[bool, SWITCH, "Log the last address of X-Forwarded-For as the client's."] = False
    cors_origins: Annotated[str | None, TEXT, "Allowed CORS origins, separated by commas, or * for all."] = None
    root_path: Annotated[str | None, ROOT_PATH, "Path prefix under which a proxy serves the service, for /docs."] = None
    keep_alive_s: Annotated[int, SECONDS, "Timeout in seconds for idle connections."] = 75
    drain_s: Annotated[int, SECONDS, "Seconds to keep scoring after SIGTERM, with /health at 503."] = 0
    shutdown_s: Annotated[int, SECONDS, "Timeout in seconds for requests in flight during shutdown."] = 30


NEEDED = {
    "tls_certificate": "tls_key",
    "tls_key": "tls_certificate",
    "tls_client_ca": "tls_certificate",
    "ops_host": "ops_port",
}
"""Settings that require another one."""


class SettingsCommand(click.Command):
    """A command with the settings as options, besides its own; its function takes them as the argument `settings`.

    The context's object is the environment, normally `os.environ`.
    """

    def __init__(self, name: str | None, **attributes: Any) -> None:
        super().__init__(name, **attributes, epilog=EPILOG)
        self.params += map(_Option, msgspec.structs.fields(Settings))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the settings from the arguments and the environment; raises click.UsageError."""
        environ: Mapping[str, str] = ctx.obj or {}
        known = {_variable(name): name for name in Settings.__struct_fields__}
        ctx.default_map = {known[variable]: text for variable, text in environ.items() if variable in known}
        rest = super().parse_args(ctx, args)
        if not ctx.resilient_parsing:  # set while a shell completes the arguments
            _check_variables(environ, known, ctx)
            ctx.params["settings"] = _settings(ctx)
        return rest


def parse_settings(argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """Read the settings: a flag in `argv` beats a variable in `environ`, which beats the default.

    Raises click.UsageError for an unknown flag or `ANOMALY_` variable, and for a wrong value of either.
    """
    with SettingsCommand(PROGRAM).make_context(PROGRAM, list(argv), obj=environ) as context:
        settings: Settings = context.params["settings"]
        return settings


def source_of(name: str, context: click.Context) -> str:
    """Return the source of a setting's value: the flag, the variable, or `default`."""
    sources = {ParameterSource.COMMANDLINE: flag_of(name), ParameterSource.DEFAULT_MAP: _variable(name)}
    return sources.get(context.get_parameter_source(name) or ParameterSource.DEFAULT, "default")


def settings_table() -> str:
    """Render the settings as a Markdown table: flag, variable, default and meaning."""
    rows = [
        f"| `{flag_of(field.name)}` | `{_variable(field.name)}` | `{shown(field.default)}` | {_meaning(field)} |"
        for field in msgspec.structs.fields(Settings)
    ]
    return "\n".join(["| flag | variable | default | meaning |", "|---|---|---|---|", *rows])


class _Option(click.Option):
    """The flag and the variable of a setting; the error for a wrong value names its source and the expectation."""

    def __init__(self, field: msgspec.structs.FieldInfo) -> None:
        flag, kind = flag_of(field.name), field.type.__metadata__[0]
        super().__init__(
            [f"{flag}/--no-{flag[2:]}" if kind is SWITCH else flag, field.name],
            type=kind,
            default=field.default,
            help=f"{_meaning(field)} (default: {shown(field.default)}; environment: {_variable(field.name)})",
        )

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        try:
            if value == "":
                raise click.BadParameter("empty")
            return super().type_cast_value(ctx, value)
        except click.BadParameter as error:
            from_variable = ctx.get_parameter_source(self.name) is ParameterSource.DEFAULT_MAP
            source = _variable(self.name) if from_variable else self.opts[0]
            raise click.UsageError(f"{source} is {value!r}, expected {_expected(self.type)}", ctx) from error


def _check_variables(environ: Mapping[str, str], known: Mapping[str, str], context: click.Context) -> None:
    """Refuse a variable with the prefix of the settings and an unknown name."""
    for variable in environ:
        if variable.startswith(PREFIX) and variable not in known:
            nearest = difflib.get_close_matches(variable.removeprefix(PREFIX).lower(), known.values(), n=1)
            hint = f"did you mean {_variable(nearest[0])}?" if nearest else "see --help for the known ones"
            raise click.UsageError(f"unknown environment variable {variable}; {hint}", context)


def _settings(context: click.Context) -> Settings:
    """Move the settings out of the context's parameters."""
    values = {name: context.params.pop(name) for name in Settings.__struct_fields__}
    for name, needed in NEEDED.items():
        if values[name] is not None and values[needed] is None:
            raise click.UsageError(f"{flag_of(name)} needs {flag_of(needed)}: give both, or neither", context)
    if context.get_parameter_source("model") is ParameterSource.DEFAULT:
        values["model"] = str(SHIPPED_MODEL.resolve())
    return Settings(**values)


def flag_of(name: str) -> str:
    """Return the flag of a setting."""
    return "--" + name.replace("_", "-")


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def shown(value: object) -> str:
    """Format the value of a setting as its flag takes it; `none` for no value."""
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _meaning(field: msgspec.structs.FieldInfo) -> str:
    return str(field.type.__metadata__[1])


def _expected(kind: click.ParamType[Any]) -> str:
    match kind:
        case click.Choice():
            return f"one of {', '.join(kind.choices)}"
        case click.IntRange(max=None):
            return f"a whole number of at least {kind.min}"
        case click.IntRange():
            return f"a whole number from {kind.min} to {kind.max}"
    expected = {
        SWITCH: "true or false",
        DIGEST: "64 hexadecimal digits",
        ROOT_PATH: "a path as /a/b",
        SERVED_NAME: "1 to 100 of the characters A-Z, a-z, 0-9 and ._~-",
    }
    return expected.get(kind, "non-empty text")
