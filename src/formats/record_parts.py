"""The bytes of MXNet's RecordIO: how a record is cut into parts, and found again. `recordio` describes the format."""

from __future__ import annotations

import mmap
import struct
from typing import Iterator

MAGIC = struct.pack("<I", 0xCED7230A)
PART = struct.Struct("<4sI")  # magic number; kind of the part (3 bits) and its length (29 bits)
HEADER = struct.Struct("<IfQQ")  # flag: number of values of the label array; label; two ids
COMPLETE, FIRST, MIDDLE, LAST = range(4)  # kinds of part
MAX_LENGTH = (1 << 29) - 1  # bytes of a part


def stored_parts(record: bytes) -> Iterator[bytes]:
    """Yield the stored bytes of a record: its parts, each with its head, and the padding."""
    start, end = 0, _next_magic(record, 0)
    while end < len(record):
        yield PART.pack(MAGIC, (MIDDLE if start else FIRST) << 29 | end - start)
        yield record[start:end]
        start = end + len(MAGIC)
        end = _next_magic(record, start)
    yield PART.pack(MAGIC, (LAST if start else COMPLETE) << 29 | end - start)
    yield record[start:]
    yield bytes(-len(record) % 4)


def stored_length(length: int) -> int:
    """Return the bytes that a part of `length` bytes takes in the file, with its head and padding."""
    return PART.size + (length + 3) // 4 * 4


def first_parts(content: mmap.mmap) -> Iterator[int]:
    """Yield where records begin in a file; damaged parts are skipped."""
    position = 0
    while position + PART.size <= len(content):
        magic, word = PART.unpack_from(content, position)
        if magic == MAGIC and word >> 29 in (COMPLETE, FIRST):
            yield position
        end = position + stored_length(word & MAX_LENGTH)
        if magic != MAGIC or not (end == len(content) or content[end : end + 4] == MAGIC):
            end = _next_magic(content, position + 4)
        position = end


def _next_magic(content: bytes | mmap.mmap, start: int) -> int:
    """Find the next magic number at a multiple of 4 bytes; the length of the content if there is none."""
    while True:
        found = content.find(MAGIC, start)
        if found < 0:
            return len(content)
        if found % 4 == 0:
            return found
        start = found + 1
