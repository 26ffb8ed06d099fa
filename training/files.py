"""Files that appear whole or not at all, and their digests.

Knows nothing of what is in them.
"""

import errno
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def require_output(path: str | Path, *inputs: str | Path) -> None:
    """Raise OSError when `path` can never be written: before long work, and not after it.

    Its folder is missing, it is a folder or a device, or it is one of the inputs, which a result must not replace.
    """
    final = Path(path).resolve()
    if not final.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "No folder to write this file in; create it first", str(final))
    if final.exists() and not final.is_file():
        raise OSError(errno.EINVAL, "Not a regular file, and so not replaced; choose another output", str(final))
    if final in (Path(one).resolve() for one in inputs):
        raise OSError(errno.EINVAL, "This is the input, and so not replaced; choose another output", str(final))


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary sibling of `path` to write, and rename it over `path` once it is complete.

    The sibling does not exist yet and ends in the same suffix, by which many writers choose a format. On any failure,
    an interrupt included, it is removed and `path` stays as it was. Raises OSError as `require_output` does.
    """
    require_output(path)
    final = Path(path).resolve()  # a link keeps pointing where it did
    temporary = final.with_name(f".{final.stem}.{secrets.token_hex(4)}{final.suffix}")
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.replace(final)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sha256_of(path: str | Path) -> str:
    """Return the SHA-256 of the file at `path` in hexadecimal. Raises OSError when it cannot be read."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
