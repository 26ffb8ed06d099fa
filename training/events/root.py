"""Trees in ROOT files, read and written with uproot."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import awkward as ak
import uproot
from numpy.typing import NDArray

from training.errors import EventsError
from training.events.frame import LISTED, Frame, element, listed
from training.files import atomic_write

TREE = "events"  # name of the written tree
_MODELS = ("TTree", "TNtuple", "TNtupleD", "ROOT::RNTuple")


@dataclass(frozen=True)
class RootFrame(Frame):
    """An open tree; only the requested branches and entries are read."""

    _tree: Any
    _branches: Mapping[str, str]  # column -> name of the branch
    _last: dict[tuple[str, int, int], Any] = field(default_factory=dict)

    def _fill(self, values: NDArray[Any], columns: Sequence[str], start: int, stop: int) -> None:
        for target, name in enumerate(columns):
            column, indices = (name, ()) if name in self.dtypes else element(name)
            found = self._column(column, start, stop)
            for index in indices:
                found = _element(found, index)
            values[:, target] = ak.to_numpy(found)

    def _column(self, column: str, start: int, stop: int) -> Any:
        """Return the entries start to stop of a branch. The last ones are cached, because elements are read singly."""
        if any(kept[1:] != (start, stop) for kept in self._last):
            self._last.clear()
        if (place := (column, start, stop)) not in self._last:
            with _explained(self.path, f"entries {start} to {stop - 1} of '{self.key}/{column}'"):
                branch = self._tree[self._branches[column]]
                self._last[place] = branch.array(entry_start=start, entry_stop=stop, library="ak")
        return self._last[place]


@contextmanager
def open_root(path: Path, key: str | None = None) -> Iterator[RootFrame]:
    """Open the tree `key` of a ROOT file, or its only tree.

    Raises EventsError if the file is not ROOT or has no such tree, if it has several and no key is given, or if the
    tree has no entries.
    """
    with _explained(path, "it as ROOT"):
        file = uproot.open(path)
    with file:
        with _explained(path, "its list of trees"):
            trees = [name for name, kind in file.classnames(cycle=False).items() if kind in _MODELS]
        found = trees if key is None else [name for name in trees if name == key.strip("/")]
        if len(found) != 1:
            what = "holds no tree" if key is None and not trees else "holds several trees"
            raise EventsError(
                f"{path}: {what if key is None else f'has no tree {key!r}'}. Choose one with --key: "
                f"{listed(trees) or 'there is none'}."
            )
        with _explained(path, f"'{found[0]}'"):
            tree = file[found[0]]
            branches = {_name(one): one for one in tree.iterkeys() if not getattr(tree[one], "branches", ())}
            dtypes = {name: _dtype(tree[branch]) for name, branch in branches.items()}
        if not tree.num_entries:
            raise EventsError(f"{path}: '{found[0]}' has no entries, expected events. Check how the file was written.")
        yield RootFrame(path, found[0], int(tree.num_entries), dtypes, tree, branches)


def _name(branch: str) -> str:
    """Return the column name of a branch: `Jet.Tau` for `Jet/Jet.Tau[5]`, whose lists have 5 elements each."""
    return re.sub(r"(\[\w*\])+$", "", branch.rpartition("/")[2])


def _dtype(branch: Any) -> str:
    """Return the type of a branch: for numbers and lists of numbers, the name of the NumPy dtype."""
    try:
        stored = ak.type(branch.array(entry_stop=0, library="ak")).content
    except Exception:  # uproot cannot read the class, which matters only if the branch is requested
        return str(branch.typename)
    depth = 0
    while isinstance(stored, ak.types.ListType | ak.types.RegularType):
        stored, depth = stored.content, depth + 1
    held = stored.primitive if isinstance(stored, ak.types.NumpyType) else str(stored)
    return held + LISTED * depth


def _element(lists: Any, index: int) -> Any:
    """Return an element of each list, or 0 (or an empty list) where the list is shorter."""
    nested = lists.ndim > 2
    found = ak.pad_none(lists, index + 1, axis=1)[:, index]
    return ak.fill_none(found, [] if nested else 0, axis=0)


@contextmanager
def _explained(path: Path, place: str) -> Iterator[None]:
    """Convert errors of uproot for damaged or unexpected content to an EventsError that names the place."""
    try:
        yield
    except Exception as error:  # uproot raises many kinds of errors for unexpected bytes
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
        raise EventsError(
            f"{path}: cannot read {place}: {reason}. It is damaged or of another format: copy it again, or write it "
            "anew."
        ) from error


def write_root(out: Path, chunks: Iterator[Mapping[str, Any]], attributes: Mapping[str, str]) -> None:
    """Write at least one chunk of columns, each (n,), as the tree `events`; attributes become strings next to it."""
    first = next(chunks)
    with atomic_write(out) as path, uproot.recreate(path) as file:
        for name, value in attributes.items():
            file[name] = value
        tree = file.mktree(TREE, {name: values.dtype for name, values in first.items()})
        for chunk in chain([first], chunks):
            tree.extend(dict(chunk))
