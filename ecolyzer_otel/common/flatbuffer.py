"""Walking a flatbuffer in place (https://flatbuffers.dev/internals/): what ``.ort`` and ``.tflite`` files are.

Slots are those of the file's schema, counted from 0. What does not fit raises :class:`struct.error` or IndexError.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from struct import unpack_from

__all__ = ["Buffer", "field", "follow", "table", "tables", "vector"]

Buffer = bytes | mmap.mmap


def follow(view: Buffer, at: int) -> int:
    """Where the offset at ``at`` leads."""
    (offset,) = unpack_from("<I", view, at)
    return at + int(offset)


def field(view: Buffer, owner: int, slot: int) -> int:
    """Where a field of a table lies; 0 when it has its default."""
    (back,) = unpack_from("<i", view, owner)
    length, at = unpack_from("<H", view, owner - back)[0], 4 + 2 * slot
    if at + 2 > length:
        return 0
    (offset,) = unpack_from("<H", view, owner - back + at)
    return owner + int(offset) if offset else 0


def table(view: Buffer, owner: int, slot: int) -> int:
    """Where what a field leads to lies; 0 when it is not there."""
    at = field(view, owner, slot)
    return follow(view, at) if at else 0


def vector(view: Buffer, owner: int, slot: int) -> tuple[int, int]:
    """Start and number of the elements."""
    at = table(view, owner, slot)
    return (at + 4, unpack_from("<I", view, at)[0]) if at else (0, 0)


def tables(view: Buffer, owner: int, slot: int) -> Iterator[int]:
    """Where each table of a vector lies."""
    start, number = vector(view, owner, slot)
    for index in range(number):
        yield follow(view, start + 4 * index)
