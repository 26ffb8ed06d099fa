"""Mapping of a file's columns to features: each feature is a column or a formula.

pxj1 = Jet1_px
mj1 = 1000 * jet1_mass_TeV
pzj1 = Jet.PT[0] * sinh(Jet.Eta[0])
"""

import ast
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.errors import EventsError
from training.events.frame import Frame, element

Floats = NDArray[np.float64]

FUNCTIONS: dict[str, np.ufunc] = {
    name: getattr(np, name)
    for name in ("abs", "cos", "cosh", "exp", "hypot", "log", "maximum", "minimum", "sin", "sinh", "sqrt")
}
_OPERATORS: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
_NAME = re.compile(r"[^\W\d]\w*(\.\w+)*(\[\d+\])*")
_NEXT = re.compile(r",(?=\s*\w+\s*=)")  # a comma inside a formula is not followed by a name and =


@dataclass(frozen=True)
class Formula:
    """An arithmetic expression of columns and their elements, with + - * / **, numbers, and the NumPy FUNCTIONS."""

    _tree: ast.expr
    columns: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> "Formula":
        """Parse a formula. Raises ValueError, naming the invalid part."""
        try:
            tree = ast.parse(text.strip(), mode="eval").body
        except SyntaxError as error:
            raise ValueError(f"{text!r} is neither a column nor a formula: {error.msg}") from error
        return cls(tree, tuple(dict.fromkeys(_columns(tree))))

    def of(self, values: Mapping[str, Floats]) -> Any:
        """Evaluate the formula for columns (n,) each: (n,), or a number if it has no columns."""
        return _value(self._tree, values)


def _columns(node: ast.expr) -> list[str]:
    """Return the columns of a formula and elements of columns. Raises ValueError for anything not allowed in it."""
    match node:
        case ast.BinOp(left, operation, right) if type(operation) in _OPERATORS:
            return _columns(left) + _columns(right)
        case ast.UnaryOp(operation, operand) if type(operation) in _OPERATORS:
            return _columns(operand)
        case ast.Call(ast.Name(function), arguments, []) if function in FUNCTIONS:
            if len(arguments) != FUNCTIONS[function].nin:
                raise ValueError(f"{ast.unparse(node)!r} has {len(arguments)} arguments, too few or too many")
            return [column for argument in arguments for column in _columns(argument)]
        case ast.Constant(int() | float()):
            return []
        case ast.Name() | ast.Attribute() | ast.Subscript() if _NAME.fullmatch(ast.unparse(node)):
            return [ast.unparse(node)]
    expected = f"columns, numbers, + - * / ** and {', '.join(FUNCTIONS)}"
    raise ValueError(f"{ast.unparse(node)!r} is no part of a formula, expected {expected}")


def _value(node: ast.expr, values: Mapping[str, Floats]) -> Any:
    match node:
        case ast.BinOp(left, operation, right):
            return _OPERATORS[type(operation)](_value(left, values), _value(right, values))
        case ast.UnaryOp(operation, operand):
            return _OPERATORS[type(operation)](_value(operand, values))
        case ast.Call(ast.Name(function), arguments):
            return FUNCTIONS[function](*(_value(argument, values) for argument in arguments))
        case ast.Constant(int() | float() as number):
            return np.float64(number)
    return values[ast.unparse(node)]


def parse_columns(text: str) -> dict[str, str]:
    """Return the columns or formulas by feature of `pxj1=Jet1_px,mj1=...`. Raises ValueError for anything else."""
    pairs = [pair.partition("=") for pair in _NEXT.split(text)]
    if wrong := next((name for name, equals, value in pairs if not (equals and value.strip())), None):
        raise ValueError(f"{wrong!r} names no column, expected FEATURE=COLUMN, and a comma before the next")
    return {name.strip(): value.strip() for name, _, value in pairs}


@dataclass(frozen=True)
class MappedFrame(Frame):
    """A view of a table with renamed columns and formulas; other columns keep their names."""

    _source: Frame
    _renamed: Mapping[str, str]  # column -> column of the source, or an element of it
    _formulas: Mapping[str, Formula]

    @property
    def has_default_index(self) -> bool:
        """Whether the row index is 0, 1, ...; raises EventsError when the file is damaged."""
        return self._source.has_default_index

    def _fill(self, values: NDArray[Any], columns: Sequence[str], start: int, stop: int) -> None:
        taken = [target for target, name in enumerate(columns) if name not in self._formulas]
        names = [self._renamed.get(columns[target], columns[target]) for target in taken]
        values[:, taken] = self._source.read(names, start, stop, values.dtype)
        formulas = {target: self._formulas[name] for target, name in enumerate(columns) if name in self._formulas}
        needed = list(dict.fromkeys(one for formula in formulas.values() for one in formula.columns))
        found = dict(zip(needed, self._source.read(needed, start, stop).T, strict=True))
        with np.errstate(
            all="ignore"
        ):  # values that are not finite raise an error, with their row, when the columns are read
            for target, formula in formulas.items():
                values[:, target] = formula.of(found)


def mapped(frame: Frame, columns: Mapping[str, str]) -> Frame:
    """Return a table with these columns, each a column of the frame, an element of one, or a formula.

    Raises EventsError for a formula that cannot be read, and for a column that is missing or not numeric.
    """
    if not columns:
        return frame
    renamed = {name: text for name, text in columns.items() if _is_column(frame, text)}
    formulas = {}
    for name, text in columns.items():
        if name not in renamed:
            try:
                formulas[name] = Formula.parse(text)
            except ValueError as error:
                raise EventsError(f"{frame.path}: column '{name}': {error}. Correct it in --columns.") from error
    frame.require([*renamed.values(), *(column for formula in formulas.values() for column in formula.columns)])
    found = {name: frame.dtype(renamed[name]).name if name in renamed else "float64" for name in columns}
    others = {name: held for name, held in frame.dtypes.items() if name not in (*columns, *renamed.values())}
    return MappedFrame(frame.path, frame.key, frame.rows, found | others, frame, renamed, formulas)


def _is_column(frame: Frame, text: str) -> bool:
    return text in frame.dtypes or element(text)[0] in frame.dtypes
