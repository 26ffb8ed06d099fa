"""The command line of the service: serve, check, settings, healthcheck and keys."""

import gc
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec

from service import __version__
from service.settings import HELP_OPTIONS, PROGRAM, Settings, SettingsCommand, flag_of, shown, source_of
from service.streams import OutputError, coloured, replace_streams

DISTRIBUTION = "lhc-anomaly"


def main(argv: Sequence[str] | None = None, program: str = PROGRAM) -> int:
    """Run one command, or `serve` where none is named, and return its exit status.

    The status is 2 for a wrong command line or setting and 1 for any other error; the message is one line.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in {"-h", "--help", "--version"}):
        arguments.insert(0, "serve")
    try:
        return commands.main(arguments, program, standalone_mode=False, obj=os.environ) or 0
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return error.exit_code
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else program
        _print_error(error.format_message(), f"{command}: ")
        return error.exit_code
    except click.ClickException as error:
        _print_error(error.format_message())
        return error.exit_code
    except click.Abort:
        return 128 + signal.SIGINT


def alone(program: str = PROGRAM) -> int:
    """Run `main` as the whole process; closed standard streams do not fail the command."""
    replace_streams()
    try:
        return main(program=program)
    except OutputError as error:
        _print_error(error.strerror)
        return 1


@click.group(context_settings=HELP_OPTIONS)
@click.version_option(__version__, prog_name=DISTRIBUTION, message="%(prog)s %(version)s")
def commands() -> None:
    """Score events over HTTP with an exported model.

    The default command is serve: its options can be given without it.
    """


@commands.command(cls=SettingsCommand)
def serve(settings: Settings) -> int:
    """Serve the model until SIGTERM or SIGINT."""
    # The signals stay blocked until the server handles them, so that none interrupts an import.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})

    def run() -> int:
        # Imported here, so that --help and a wrong setting take no time, and without garbage collection, which would
        # take a tenth of the imports' time and find nothing.
        gc.disable()
        from service.server.startup import run

        gc.enable()
        return run(settings)

    if os.getpid() != 1:
        return run()
    from service.server.init import run_first

    return run_first(run)


@commands.command(cls=SettingsCommand)
@click.argument("file", metavar="[MODEL]", required=False, type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print identities as JSON.")
@click.pass_context
def check(context: click.Context, file: str | None, as_json: bool, settings: Settings) -> None:
    """Verify the model, keys and certificates without serving.

    The exit status is 0 for valid files, else 1. MODEL is the same as --model MODEL.
    """
    from service.model.artefact import ArtefactError
    from service.security.api_keys import KeysError
    from service.security.tls import TlsError
    from service.server.startup import check_files

    if file is not None:
        if source_of("model", context) == flag_of("model"):
            raise click.UsageError(f"MODEL and --model are both given: {file} and {settings.model}; give one", context)
        settings = msgspec.structs.replace(settings, model=file)
    with _explained(ArtefactError, KeysError, TlsError):
        artefact = check_files(settings)
    others = [settings.api_keys, settings.tls_certificate, settings.tls_key, settings.tls_client_ca]
    valid = [path for path in others if path is not None]
    if as_json:
        model = {"file": settings.model, "identity": artefact.identity, "sha256": artefact.sha256}
        _print_json({"model": model, "valid": valid})
        return
    click.echo(f"{settings.model}: {artefact.identity}")
    for path in valid:
        click.echo(f"{path}: valid")


@commands.command("settings", cls=SettingsCommand)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def print_settings(context: click.Context, as_json: bool, settings: Settings) -> None:
    """Print every setting, its value and where it came from."""
    found = {
        flag_of(name): (value, source_of(name, context)) for name, value in msgspec.structs.asdict(settings).items()
    }
    if as_json:
        _print_json({flag: {"value": value, "from": source} for flag, (value, source) in found.items()})
        return
    rows = [("setting", "value", "from"), *((flag, shown(value), source) for flag, (value, source) in found.items())]
    flag_width, value_width, _ = (max(map(len, column)) for column in zip(*rows, strict=True))
    for flag, text, source in rows:
        line = f"{flag:<{flag_width}}  {text:<{value_width}}  {source}"
        click.echo(line if source == "default" else coloured(line, sys.stdout, bold=True))


@commands.command(cls=SettingsCommand)
def healthcheck(settings: Settings) -> None:
    """Ask the service that runs with these settings for /health."""
    from service.server.healthcheck import UnhealthyError, check_health

    with _explained(UnhealthyError):
        check_health(settings)


@commands.group()
def keys() -> None:
    """Manage the API keys in a file for --api-keys.

    A running service reads a changed file at SIGHUP.
    """


@keys.command()
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
def add(name: str, file: Path) -> None:
    """Create a key for NAME, append its digest to FILE and print the key this once."""
    from service.security.api_keys import KeysError, add_key

    with _explained(KeysError):
        click.echo(add_key(name, file))
    click.echo(f"{file}: added a key for {name}; it cannot be shown again", err=True)


@keys.command("list")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_keys(file: Path, as_json: bool) -> None:
    """Print the name and the first digits of the digest of each key in FILE."""
    from service.security.api_keys import SHOWN_DIGITS, KeysError, read_keys

    with _explained(KeysError):
        found = [{"name": key.name, "digest": key.digest.hex()[:SHOWN_DIGITS]} for key in read_keys(file)]
    if as_json:
        _print_json(found)
        return
    for key in found:
        click.echo(f"{key['name']} {key['digest']}")


@keys.command()
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("digest", default="")
def remove(name: str, file: Path, digest: str) -> None:
    """Remove the keys of NAME from FILE, or only those whose digest starts with DIGEST."""
    from service.security.api_keys import KeysError, remove_keys

    with _explained(KeysError):
        click.echo(f"{file}: removed {remove_keys(name, file, digest)} of {name}")


def _print_error(message: str | None, before: str = "") -> None:
    label = coloured("error:", sys.stderr, fg="red", bold=True)
    click.echo(f"{before}{label} {message}", err=True)


def _print_json(value: object) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(value)))


@contextmanager
def _explained(*errors: type[Exception]) -> Iterator[None]:
    """Turn errors whose message the user can act on into one line and exit status 1."""
    try:
        yield
    except errors as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    sys.exit(alone())
