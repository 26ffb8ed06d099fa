"""The fault of a body that is too long to look at whole, in words, from its start alone.

It does not know what is wrong with bodies that are all here: see faults.py.
"""

import json
import re
import struct

import msgspec

from service.formats.faults import MSGPACK_HEAD, TOO_DEEP, Key, json_fault, n_keys, repeated, shown

JSON_SPACE = " \t\n\r"
JSON_KEY = re.compile(r'(?s)[ \t\n\r]*("(?:[^"\\]|\\.)*")[ \t\n\r]*:[ \t\n\r]*')
NOT_ASCII = bytes(range(0x80, 0x100))

LONG_MSGPACK = {
    **dict.fromkeys([*range(0x80, 0x90), 0xDE, 0xDF], "an object"),
    **dict.fromkeys([*range(0x90, 0xA0), 0xDC, 0xDD], "a list"),
    **dict.fromkeys([0xC4, 0xC5, 0xC6], "bytes"),
}
"""What may be too long to show, by its first byte; the rest is text."""


def json_start_fault(start: bytes, key: Key) -> str:
    """Say what is wrong with a JSON body of which `start` is not that of a good one, and which goes on after it."""
    text = start.rstrip(NOT_ASCII).decode(errors="replace").lstrip(JSON_SPACE)
    reason = json_fault(start.rstrip(NOT_ASCII), key, ())
    if reason == TOO_DEEP.format("JSON"):
        return reason
    if not text:
        return f"the body starts with {len(start)} bytes of space, expected an object with the key {shown(key)}"
    if text[0] in '["':
        return f"the body is {'a list' if text[0] == '[' else 'a text'}, expected an object with the key {shown(key)}"
    name = JSON_KEY.match(text, 1) if text[0] == "{" else None
    value = text[name.end() : name.end() + 1] if name else ""
    fault = json_key_fault(text[1:].encode(), key) if name else None
    if fault and fault != repeated(key):
        return fault
    if value in ("{", '"'):
        return f"{key} is {'an object' if value == '{' else 'a text'}, expected a list of {key}"
    return reason or f"the body does not start with {shown(key)}"


def json_key_fault(start: bytes, key: Key) -> str | None:
    """Say what is wrong with one more key than the first, after whose comma a JSON body goes on with `start`."""
    written = JSON_KEY.match(start.decode(errors="replace"))
    try:
        name = json.loads(written[1]) if written else key
    except ValueError:
        return None
    if name != key:
        return f"unknown key {shown(name)}, expected {shown(key)}"
    return repeated(key) if written else None


def is_json_so_far(start: bytes) -> bool:
    """Tell whether `start` is JSON whose end is missing."""
    try:
        msgspec.json.decode(start)
    except msgspec.DecodeError as error:
        return "truncated" in str(error)
    except (ValueError, RecursionError):
        return False
    return True


def msgpack_start_fault(start: bytes, key: Key) -> str:
    """Say what is wrong with a MessagePack body of which `start` is not that of a good one, and which goes on after."""
    try:
        msgpack_end(start)
    except RecursionError:
        return TOO_DEEP.format("MessagePack")
    except ValueError:  # it goes on
        pass
    head = MSGPACK_HEAD.match(start)
    if head is None:
        return f"the body is {_first_of(start)}, expected an object with the key {shown(key)}"
    name = _first_of(start[head.end() :])
    if name != shown(key):
        return f"unknown key {name}, expected {shown(key)}"
    found = n_keys(start)
    if found != 1:
        return f"the body has {found} keys, expected {shown(key)} alone"
    return f"{key} is {_first_of(start[head.end() + msgpack_end(start[head.end() :]) :])}, expected a list of {key}"


def msgpack_end(data: bytes, n_values: int = 1) -> int:
    """Tell where the first `n_values` values end, without reading them; raises ValueError if they do not."""
    head = b"\xdd" + struct.pack(">I", n_values)
    try:
        msgspec.msgpack.decode(head + data, type=msgspec.Raw)
    except msgspec.DecodeError as error:
        more = re.search(r"trailing characters \(byte (\d+)\)", str(error))
        if more is None:
            raise
        return int(more[1]) - len(head)
    return len(data)


def _first_of(data: bytes) -> str:
    """Show the first value of MessagePack that goes on; by its kind where it is longer than what is here."""
    try:
        return shown(msgspec.msgpack.decode(data[: msgpack_end(data)]))
    except (ValueError, RecursionError):
        return LONG_MSGPACK.get(data[0], "a text") if data else "nothing"
