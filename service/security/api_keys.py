"""API keys: a file of names and hashed keys, and who a key belongs to.

python -m service.security.api_keys add NAME FILE
python -m service.security.api_keys list FILE
python -m service.security.api_keys remove NAME FILE [DIGEST]

It does not know HTTP, nor what a key lets its owner do. The file has one line for each key, `name digest`, where the
digest is the key's SHA-256 in hexadecimal digits; a name may have several keys, so that a new one can replace an old
one while both work. Lines that are empty or begin with # say nothing.
"""

import argparse
import fcntl
import hmac
import os
import re
import secrets
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

NAME: Final = re.compile(r"[A-Za-z0-9._@-]{1,64}")
DIGEST: Final = re.compile(r"[0-9a-f]{64}")
KEY_BYTES: Final = 32
SHOWN_DIGITS: Final = 12
ADD: Final = "python -m service.security.api_keys add NAME FILE"


class KeysError(Exception):
    """The keys cannot be used: the message names the file, the line, the value and the remedy."""


class HashedKey(NamedTuple):
    """Whose key it is, and its SHA-256."""

    name: str
    digest: bytes


class KeyRing:
    """The keys in use, from a file that may be read again while they are."""

    def __init__(self, path: str | Path) -> None:
        """Read the file; raises KeysError."""
        self._path = Path(path)
        self._keys: tuple[HashedKey, ...] = ()
        self.reload()

    def reload(self, path: str | Path | None = None) -> None:
        """Read the file again, or another; raises KeysError, and then the keys are as they were."""
        self._keys = read_keys(self._path if path is None else Path(path))

    def owner(self, key: bytes) -> str | None:
        """Name whose key it is, in a time that depends on the number of keys alone; None for an unknown one."""
        # A plain hash will do: a key is 256 random bits, of which nothing can be guessed, and a slow hash, as passwords
        # need, would cost each request more than its score.
        digest = sha256(key).digest()
        owner = None
        for name, known in self._keys:
            if hmac.compare_digest(known, digest):
                owner = name
        return owner


def read_keys(path: Path) -> tuple[HashedKey, ...]:
    """Read a file of keys; raises KeysError for one that cannot be read, has a wrong line or has no key."""
    keys = _parse(path, _text(path))
    if not keys:
        raise KeysError(f"{path} has no key, with which nobody could come in: add one with {ADD}")
    return keys


def add_key(name: str, path: Path) -> str:
    """Make a key, write its digest to the end of the file, new or old, and give the key; raises KeysError."""
    _check_name("NAME", name)
    key = secrets.token_urlsafe(KEY_BYTES)

    def with_line(text: str) -> str:
        end = "\n" if text and not text.endswith("\n") else ""
        return f"{text}{end}{name} {sha256(key.encode()).hexdigest()}\n"

    _rewrite(path, with_line)
    return key


def remove_keys(name: str, path: Path, digest: str = "") -> int:
    """Take out the keys of `name` whose digest begins so, and give their number.

    Raises KeysError if there is none, or if no key would be left.
    """
    _check_name("NAME", name)
    removed = 0

    def without_lines(text: str) -> str:
        nonlocal removed
        lines = text.splitlines(keepends=True)
        kept = [line for line in lines if line.split()[:1] != [name] or not line.split()[1].startswith(digest)]
        removed = len(lines) - len(kept)
        if not removed:
            raise KeysError(f"{path} has no key of {name} {digest}".rstrip() + ": list them with the command list")
        if not _parse(path, "".join(kept)):
            raise KeysError(f"{path} has no other key, and nobody could come in: add one first, with {ADD}")
        return "".join(kept)

    _rewrite(path, without_lines)
    return removed


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and give its exit status: 1 for an error that its message explains."""
    args = _parser().parse_args(argv)
    try:
        if args.command == "add":
            print(add_key(args.name, args.file))
            print(f"{args.file}: a key of {args.name} added; it is shown this once", file=sys.stderr)
        elif args.command == "remove":
            print(f"{args.file}: {remove_keys(args.name, args.file, args.digest)} of {args.name} removed")
        else:
            for key in read_keys(args.file):
                print(f"{key.name} {key.digest.hex()[:SHOWN_DIGITS]}")
    except KeysError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _text(path: Path) -> str:
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise KeysError(f"{path} is not a regular file: give the file of keys")
        return path.read_text("utf-8")
    except OSError as error:
        raise KeysError(f"{path}: {error.strerror}; make it with {ADD}") from error
    except UnicodeDecodeError as error:
        raise KeysError(f"{path} is not UTF-8 at byte {error.start}: give a file made with {ADD}") from error


def _parse(path: Path, text: str) -> tuple[HashedKey, ...]:
    keys: list[HashedKey] = []
    lines: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        place = f"{path}, line {number}"
        if len(words) != 2:
            raise KeysError(f"{place} has {len(words)} words, expected a name and a digest: make lines with {ADD}")
        name, digest = words
        _check_name(f"{place}: the name", name)
        if not DIGEST.fullmatch(digest):
            # Not shown whole: who writes the key itself there would find it in the log.
            shown = f"{digest[:4]}... of {len(digest)} characters"
            raise KeysError(f"{place}: the digest is {shown}, expected 64 digits of 0-9a-f: make lines with {ADD}")
        if digest in lines:
            shown = digest[:SHOWN_DIGITS]
            raise KeysError(f"{place}: the digest {shown}... is that of line {lines[digest]}: take out one of them")
        lines[digest] = number
        keys.append(HashedKey(name, bytes.fromhex(digest)))
    return tuple(keys)


def _check_name(place: str, name: str) -> None:
    if not NAME.fullmatch(name):
        raise KeysError(f"{place} is {name[:80]!r}, expected 1 to 64 letters, digits or ._@-")


def _rewrite(path: Path, change: Callable[[str], str]) -> None:
    """Replace the file's text at once and whole; a new file is its owner's alone, an old one keeps its mode."""
    path = path.resolve()  # a link stays one
    try:
        with _alone(path.parent):
            text, mode = (_text(path), path.stat().st_mode & 0o777) if path.exists() else ("", 0o600)
            _parse(path, text)
            changed = change(text)
            with tempfile.NamedTemporaryFile(
                "w", encoding="utf-8", dir=path.parent, prefix=path.name, delete=False
            ) as aside:
                try:
                    aside.write(changed)
                    aside.flush()
                    os.fsync(aside.fileno())
                    os.fchmod(aside.fileno(), mode)
                    Path(aside.name).rename(path)
                except BaseException:
                    Path(aside.name).unlink(missing_ok=True)
                    raise
    except OSError as error:
        raise KeysError(f"{path}: {error.strerror}; give a file in a directory that you may write to") from error


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Wait until no other of these commands changes a file there: two that read the same would lose a key."""
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m service.security.api_keys",
        description="Make and take out the API keys of a file that the service reads with --api-keys.",
        epilog="A running service takes a changed file at SIGHUP.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    add = commands.add_parser("add", help="make a key, and print it this once")
    remove = commands.add_parser("remove", help="take out the keys of a name")
    listing = commands.add_parser("list", help="print the names, and how the digests of their keys begin")
    for command in (add, remove):
        command.add_argument("name", metavar="NAME", help="whose key it is")
    for command in (add, remove, listing):
        command.add_argument("file", metavar="FILE", type=Path, help="the file of keys")
    remove.add_argument("digest", metavar="DIGEST", nargs="?", default="", help="how the digest of the key begins")
    return parser


if __name__ == "__main__":
    sys.exit(main())
