"""API keys: a file of names and SHA-256 digests, and the name that a key belongs to.

Each line is `name digest`, the digest in hexadecimal digits. A name may have several keys, so that a new one can
replace an old one while both work. Empty lines and those that start with # are ignored.
"""

import fcntl
import hmac
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

NAME: Final = re.compile(r"[A-Za-z0-9._@-]{1,64}")
DIGEST: Final = re.compile(r"[0-9a-f]{64}")
KEY_BYTES: Final = 32
SHOWN_DIGITS: Final = 12
ADD: Final = "python -m service keys add NAME FILE"


class KeysError(Exception):
    """The keys cannot be used; the message names the file, the line, the value and the remedy."""


class HashedKey(NamedTuple):
    """The name that a key belongs to, and the SHA-256 of the key."""

    name: str
    digest: bytes


class KeyRing:
    """The keys in use, from a file that can be read again."""

    def __init__(self, path: str | Path) -> None:
        """Read the file; raises KeysError."""
        self.keys = read_keys(Path(path))
        """The keys; a new object after each read of a file."""

    def reload(self, path: str | Path) -> None:
        """Read the file again, or its successor; if that raises KeysError, the keys stay unchanged."""
        self.keys = read_keys(Path(path))

    def owner(self, key: bytes) -> str | None:
        """Return the name that a key belongs to, or None, in a time that depends only on the number of keys."""
        # A plain hash is enough: a key is 256 random bits, which cannot be guessed. A slow hash, as passwords need,
        # would take more time than a score in each request.
        digest = sha256(key).digest()
        owner = None
        for name, known in self.keys:
            if hmac.compare_digest(known, digest):
                owner = name
        return owner


def read_keys(path: Path) -> tuple[HashedKey, ...]:
    """Read a file of any number of keys; raises KeysError if it cannot be read or has a wrong line."""
    return _parse(path, _text(path))


def require_keys(path: Path) -> None:
    """Require a key in the file; raises KeysError."""
    if not read_keys(path):
        raise KeysError(f"{path} has no key, so that every request would be refused: add one with {ADD}")


def add_key(name: str, path: Path) -> str:
    """Create a key, append its digest to the file, created if needed, and return the key; raises KeysError."""
    _check_name("NAME", name)
    key = secrets.token_urlsafe(KEY_BYTES)

    def with_line(text: str) -> str:
        end = "\n" if text and not text.endswith("\n") else ""
        return f"{text}{end}{name} {sha256(key.encode()).hexdigest()}\n"

    _rewrite(path, with_line)
    return key


def remove_keys(name: str, path: Path, digest: str = "") -> int:
    """Remove the keys of `name` whose digest starts with `digest`, and return their number.

    Raises KeysError if there is none.
    """
    _check_name("NAME", name)
    removed = 0

    def without_lines(text: str) -> str:
        nonlocal removed
        lines = text.splitlines(keepends=True)
        kept = [line for line in lines if line.split()[:1] != [name] or not line.split()[1].startswith(digest)]
        removed = len(lines) - len(kept)
        if not removed:
            raise KeysError(
                f"{path} has no key of {name} {digest}".rstrip()
                + ": list the keys with python -m service keys list FILE"
            )
        return "".join(kept)

    _rewrite(path, without_lines)
    return removed


def _text(path: Path) -> str:
    try:
        if path.exists() and not path.is_file():  # reading a pipe would block
            raise KeysError(f"{path} is not a regular file: give the path of a file of keys")
        return path.read_text("utf-8")
    except OSError as error:
        raise KeysError(f"{path}: {error.strerror}; create it with {ADD}") from error
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
            raise KeysError(f"{place} has {len(words)} words, expected a name and a digest: create lines with {ADD}")
        name, digest = words
        _check_name(f"{place}: the name", name)
        if not DIGEST.fullmatch(digest):
            # Not shown whole: a key written there instead of its digest would appear in the log.
            shown = f"{digest[:4]}... of {len(digest)} characters"
            raise KeysError(f"{place}: the digest is {shown}, expected 64 digits of 0-9a-f: create lines with {ADD}")
        if digest in lines:
            shown = digest[:SHOWN_DIGITS]
            raise KeysError(f"{place}: the digest {shown}... is that of line {lines[digest]}: remove one of them")
        lines[digest] = number
        keys.append(HashedKey(name, bytes.fromhex(digest)))
    return tuple(keys)


def _check_name(place: str, name: str) -> None:
    if not NAME.fullmatch(name):
        raise KeysError(f"{place} is {name[:80]!r}, expected 1 to 64 letters, digits or ._@-")


def _rewrite(path: Path, change: Callable[[str], str]) -> None:
    """Replace the file's text atomically; a new file has mode 0600, an existing one keeps its mode."""
    path = path.resolve()  # keeps a symbolic link
    try:
        with _locked(path.parent):
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
        raise KeysError(f"{path}: {error.strerror}; give a file in a directory that you can write to") from error


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Lock the directory, since two commands that change a file at the same time would lose a key."""
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)
