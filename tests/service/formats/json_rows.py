"""Random lists of rows in JSON, right and wrong."""

import json
import struct
from collections.abc import Callable, Iterator
from random import Random
from typing import Final

import numpy as np
from numpy.typing import NDArray


def to_float32(numbers: list[float]) -> NDArray[np.float32]:
    """Round numbers; the large ones become infinite."""
    with np.errstate(over="ignore"):
        return np.array(numbers, np.float64).astype(np.float32)


def digits(random: Random, n: int) -> str:
    """Draw n digits."""
    return "".join(random.choices("0123456789", k=n))


def integer(random: Random, n: int) -> str:
    """Draw an integer of n digits, without leading zeros."""
    return random.choice("123456789") + digits(random, n - 1)


def finite(random: Random, form: str) -> float:
    """Draw a number from all bit patterns of a float."""
    while True:
        value: float = struct.unpack(form, random.randbytes(struct.calcsize(form)))[0]
        if abs(value) < 1e38:
            return value


def halfway(random: Random, form: str, change: Callable[[str], str]) -> str:
    """Write, digit by digit, the point half-way between a float and the next, of an ordinary size, and change it."""
    mantissa, exponent = (24, random.randint(-20, 30)) if form == "<f" else (53, random.randint(-40, 40))
    odd = (random.getrandbits(mantissa - 1) | 1 << (mantissa - 1)) * 2 + 1
    shift = exponent - mantissa
    if shift >= 0:
        return change(f"{odd << shift}.0")
    tens = f"{odd * 5**-shift:0{1 - shift}d}"
    return change(f"{tens[:shift]}.{tens[shift:]}")


SHAPES: Final[dict[str, Callable[[Random], str]]] = {
    "short decimals": lambda r: f"{r.choice(['', '-'])}{r.randrange(2000)}.{digits(r, r.randint(1, 6))}",
    "float32, shortest": lambda r: str(np.float32(r.gauss(0, 500))),
    "float32, all bits": lambda r: repr(finite(r, "<f")),
    "float64, all bits": lambda r: repr(finite(r, "<d")),
    "float64, ordinary": lambda r: repr(r.gauss(0, 1) * 10 ** r.randint(-6, 6)),
    "17 digits": lambda r: f"{r.gauss(0, 1):.17g}",
    "1 to 40 digits": lambda r: f"{integer(r, r.randint(1, 20))}.{digits(r, r.randint(1, 20))}",
    "exponents": lambda r: f"{r.randint(-9, 9)}.{digits(r, r.randint(1, 24))}{r.choice('eE')}{r.randint(-400, 37)}",
    "signed exponents": lambda r: f"{integer(r, r.randint(1, 9))}e{r.choice(['+', '-', ''])}{r.randint(0, 29):03d}",
    "leading zeros": lambda r: f"0.{'0' * r.randint(0, 30)}{digits(r, r.randint(1, 20))}",
    "zeros": lambda r: f"{r.choice(['', '-'])}0.{'0' * r.randint(1, 30)}e{r.randint(-999, 999)}",
    "integers": lambda r: r.choice(["", "-"]) + integer(r, r.randint(1, 38)),
    "near 2^24": lambda r: str(r.randint(2**24, 2**27)),
    "near the largest": lambda r: f"3.402823{r.randint(0, 4)}{digits(r, r.randint(0, 12))}e38",
    "near the smallest": lambda r: f"{r.randint(0, 20)}.{digits(r, 9)}e-{r.randint(36, 46)}",
    "half-way, float32": lambda r: halfway(r, "<f", str),
    "half-way, float64": lambda r: halfway(r, "<d", str),
    "just above half-way": lambda r: halfway(r, r.choice(["<f", "<d"]), lambda text: text + "000001"),
    "just below half-way": lambda r: halfway(r, "<f", lambda text: text[:-1] + "4" + "9" * r.randint(1, 30)),
}


def mutations(random: Random, n_lists: int) -> Iterator[tuple[bytes, int]]:
    """Write lists of rows, most of them with a few bytes changed, most of them cut; with their number of features."""
    names = list(SHAPES)
    for _ in range(n_lists):
        n_features = random.randint(1, 3)
        rows = [[SHAPES[random.choice(names)](random) for _ in range(n_features)] for _ in range(random.randint(1, 4))]
        separators = random.choice([(",", ":"), (", ", ": ")])
        data = bytearray(json.dumps(rows, separators=separators).replace('"', "").encode()[1:])
        for _ in range(random.choice([0, 1, 1, 2, 5])):
            place = random.randrange(len(data) + 1)
            new = random.choices(b"[],.-+eE0123456789 \n\0x\xff", k=random.randint(0, 2))
            data[place : place + random.randint(0, 2)] = bytes(new)
        length = random.choice([len(data), random.randint(0, len(data))])
        yield bytes(data[:length]), n_features
