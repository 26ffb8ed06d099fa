"""The folder of finished parts and its manifest, which identifies their work."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any

from training.errors import PartsError
from training.files import atomic_write, exclusive

MANIFEST = "manifest.json"
QUOTED_CHARACTERS = 100  # of a value in an error


@contextmanager
def claimed(folder: Path, manifest: Mapping[str, Any]) -> Iterator[None]:
    """Reserve a folder of parts for this process; create it if it is missing.

    Raises PartsError when it holds parts with another manifest, and OSError when another process uses it.
    """
    with exclusive(folder):
        for path in folder.glob(".*"):  # left by a killed process
            path.unlink()
        expected = json.loads(json.dumps(manifest))  # as read back from JSON: tuples become lists
        if any(folder.glob("*.npy")):
            _check(folder, expected)
        else:
            with atomic_write(folder / MANIFEST) as path:
                path.write_text(json.dumps(expected, indent=2) + "\n", encoding="utf-8")
        yield


def _check(folder: Path, expected: Mapping[str, Any]) -> None:
    path = folder / MANIFEST
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PartsError(
            f"{folder} holds parts but no {MANIFEST}, so what they are of is unknown. Remove the folder."
        ) from None
    except ValueError as error:
        raise PartsError(f"{path} is damaged: {error}. Remove the folder to start anew.") from error
    for name, value in expected.items():
        if found.get(name) != value:
            is_now, should_be = _quoted(str(found.get(name)), str(value))
            raise PartsError(
                f"{folder} holds parts of other work: its {name} is {is_now}, expected {should_be}. "
                "Repeat the command that started it, or remove the folder to start anew."
            )


def _quoted(*values: str) -> list[str]:
    """Shorten values to the text around their first difference; the settings of a cocktail have 150 kB."""
    same = sum(1 for _ in takewhile(lambda characters: len(set(characters)) == 1, zip(*values, strict=False)))
    start = max(0, same - QUOTED_CHARACTERS // 2)
    return [value if len(value) <= QUOTED_CHARACTERS else _excerpt(value, start) for value in values]


def _excerpt(value: str, start: int) -> str:
    stop = start + QUOTED_CHARACTERS
    return ("..." if start else "") + value[start:stop] + ("..." if stop < len(value) else "")
