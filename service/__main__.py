"""The command line of the service: serve, check, healthcheck and keys."""

import gc
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from service import __version__
from service.settings import HELP_OPTIONS, PROGRAM, Settings, parse_settings
from service.streams import OutputError, replace_streams

DISTRIBUTION = "lhc-anomaly"


class SettingsCommand(click.Command):
    """A command whose options are the settings; its function takes them as one argument."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the settings from the arguments and the environment; raises click.UsageError."""
        ctx.params["settings"] = parse_settings(args, os.environ, ctx.command_path, self.help)
        return []


def main(argv: Sequence[str] | None = None, program: str = PROGRAM) -> int:
    """Run one command, or `serve` where none is named, and give its exit status.

    The status is 2 for a wrong command line or setting and 1 for any other error; the message is one line.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in {"-h", "--help", "--version"}):
        arguments.insert(0, "serve")
    try:
        return commands.main(arguments, program, standalone_mode=False) or 0
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return error.exit_code
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else program
        click.echo(f"{command}: error: {error.format_message()}", err=True)
        return error.exit_code
    except click.ClickException as error:
        click.echo(f"error: {error.format_message()}", err=True)
        return error.exit_code
    except click.Abort:
        return 128 + signal.SIGINT


def alone(program: str = PROGRAM) -> int:
    """Run `main` in a process that does nothing else: closed standard streams are no failure of its command."""
    replace_streams()
    try:
        return main(program=program)
    except OutputError as error:
        click.echo(f"error: {error.strerror}", err=True)
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
    # They stay blocked until the server handles them, so that none interrupts an import.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})

    def run() -> int:
        # Imported here, so that --help and a wrong setting take no time, and without looking for garbage, of which
        # imports make none: that would take a tenth of their time.
        gc.disable()
        from service.server.startup import run

        gc.enable()
        return run(settings)

    if os.getpid() != 1:
        return run()
    from service.server.init import run_first

    return run_first(run)


@commands.command(cls=SettingsCommand)
def check(settings: Settings) -> None:
    """Verify the model, keys and certificates without serving."""
    from service.model.artefact import ArtefactError
    from service.security.api_keys import KeysError
    from service.security.tls import TlsError
    from service.server.startup import check_files

    with _explained(ArtefactError, KeysError, TlsError):
        artefact = check_files(settings)
    click.echo(f"{settings.model}: {artefact.identity}")
    for path in (settings.api_keys, settings.tls_certificate, settings.tls_key, settings.tls_client_ca):
        if path is not None:
            click.echo(f"{path}: valid")


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
@click.argument("file", type=Path)
def add(name: str, file: Path) -> None:
    """Create a key for NAME, append its digest to FILE and print the key this once."""
    from service.security.api_keys import KeysError, add_key

    with _explained(KeysError):
        click.echo(add_key(name, file))
    click.echo(f"{file}: added a key for {name}; it cannot be shown again", err=True)


@keys.command("list")
@click.argument("file", type=Path)
def list_keys(file: Path) -> None:
    """Print the name and the first digits of the digest of each key in FILE."""
    from service.security.api_keys import SHOWN_DIGITS, KeysError, read_keys

    with _explained(KeysError):
        for key in read_keys(file):
            click.echo(f"{key.name} {key.digest.hex()[:SHOWN_DIGITS]}")


@keys.command()
@click.argument("name")
@click.argument("file", type=Path)
@click.argument("digest", default="")
def remove(name: str, file: Path, digest: str) -> None:
    """Remove the keys of NAME from FILE, or those alone whose digest starts with DIGEST."""
    from service.security.api_keys import KeysError, remove_keys

    with _explained(KeysError):
        click.echo(f"{file}: removed {remove_keys(name, file, digest)} of {name}")


@contextmanager
def _explained(*errors: type[Exception]) -> Iterator[None]:
    """Turn errors whose message the user can act on into one line and exit status 1."""
    try:
        yield
    except errors as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    sys.exit(alone())
