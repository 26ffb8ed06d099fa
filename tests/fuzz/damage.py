"""Damage to bytes of any kind; the same chance gives the same damage."""

import random
from collections.abc import Sequence

LONGEST = 20
"""Bytes that one change drops or repeats at most."""


def damage(good: bytes, chance: random.Random, parts: Sequence[bytes], n_changes: int = 1) -> bytes:
    """Change, drop, repeat or insert some bytes, or cut off the end; `parts` are inserted as they are."""
    data = bytearray(good)
    for _ in range(n_changes):
        start, length = chance.randrange(len(data) + 1), chance.randint(1, LONGEST)
        match chance.randrange(6):
            case 0:
                data[start : start + 1] = chance.randbytes(1)
            case 1:
                data[start:start] = chance.randbytes(length)
            case 2:
                del data[start : start + length]
            case 3:
                data[start:start] = data[start : start + length]
            case 4:
                data[start:start] = chance.choice(parts)
            case _:
                del data[start:]
    return bytes(data)
