"""Reads a flatbuffer in place (https://flatbuffers.dev/internals/), the format of ``.ort`` and ``.tflite`` files.

Slots are the field numbers of the file's schema, from 0. All positions are byte offsets in the buffer. A broken
file raises :class:`struct.error` or IndexError.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from struct import unpack_from
from typing import Any

__all__ = ["Buffer", "field", "follow", "numbers", "scalar", "string", "table", "tables", "vector"]

Buffer = bytes | mmap.mmap


def follow(view: Buffer, at: int) -> int:
    """Returns the target of the offset at ``at``."""
    (offset,) = unpack_from("<I", view, at)
    return at + int(offset)


def field(view: Buffer, owner: int, slot: int) -> int:
    """Returns the position of a field of a table; 0 if the field has its default."""
    (back,) = unpack_from("<i", view, owner)
    length, at = unpack_from("<H", view, owner - back)[0], 4 + 2 * slot
    if at + 2 > length:
        return 0
    (offset,) = unpack_from("<H", view, owner - back + at)
    return owner + int(offset) if offset else 0


def scalar(view: Buffer, owner: int, slot: int, form: str) -> int:
    """Returns an integer field, in a form of :mod:`struct` ("<i"); 0 if the field is absent."""
    at = field(view, owner, slot)
    return int(unpack_from(form, view, at)[0]) if at else 0


def table(view: Buffer, owner: int, slot: int) -> int:
    """Returns the target of a field of a table; 0 if the field is absent."""
    at = field(view, owner, slot)
    return follow(view, at) if at else 0


def vector(view: Buffer, owner: int, slot: int) -> tuple[int, int]:
    """Returns the position and the number of a vector's elements; (0, 0) if the field is absent."""
    at = table(view, owner, slot)
    return (at + 4, unpack_from("<I", view, at)[0]) if at else (0, 0)


def numbers(view: Buffer, owner: int, slot: int, form: str) -> tuple[Any, ...]:
    """Returns the elements of a vector of numbers, each in a form of :mod:`struct` ("i")."""
    start, number = vector(view, owner, slot)
    return unpack_from(f"<{number}{form}", view, start)


def string(view: Buffer, at: int) -> bytes:
    """Returns the string at a position; empty at 0."""
    if not at:
        return b""
    (length,) = unpack_from("<I", view, at)
    return view[at + 4 : at + 4 + length]


def tables(view: Buffer, owner: int, slot: int) -> Iterator[int]:
    """Yields the position of each table of a vector."""
    start, number = vector(view, owner, slot)
    for index in range(number):
        yield follow(view, start + 4 * index)
