"""Look at many records of a .rec file at once, without their payloads: labels, and whether there is a payload."""

from __future__ import annotations

import mmap
from typing import Callable, NamedTuple

import numpy as np

from insightface_mx.base.errors import UserError
from insightface_mx.formats.record_parts import COMPLETE, FIRST, HEADER, MAGIC, MAX_LENGTH, PART

_ENOUGH = HEADER.size + 20  # bytes of a record of several parts that are looked at
_WINDOW = 1 << 28  # bytes of the file that are mapped at a time
_HEADS_AT_ONCE = 1 << 18

ReadStart = Callable[[int, int], bytes]  # row and number of bytes -> how the record begins, or UserError


class Heads(NamedTuple):
    """What records say before their payloads; arrays with a row for each record.

    Attributes:
        valid: Whether the record is in the file, as far as its head tells.
        labels: The first two values of the label array, (n, 2) float32; NaN where there is none. Without a label array
            the first is the label.
        has_payload: Whether anything follows the labels.
    """

    valid: np.ndarray
    labels: np.ndarray
    has_payload: np.ndarray


def read_heads(descriptor: int, size: int, offsets: np.ndarray, read_start: ReadStart) -> Heads:
    """Read the heads of records; a million take about a second where their pages are in memory.

    Args:
        descriptor: The open .rec file.
        size: Its size in bytes.
        offsets: Where the records begin, int64. Offsets outside the file give rows that are not valid.
        read_start: Reads records of several parts, and those that do not begin at a multiple of 4 bytes.
    """
    count = len(offsets)
    heads = Heads(np.zeros(count, bool), np.full((count, 2), np.nan, np.float32), np.zeros(count, bool))
    rows = np.argsort(offsets, kind="stable")
    first, last = np.searchsorted(offsets, (0, size - PART.size + 1), sorter=rows)
    rows = rows[first:last]
    windows = offsets[rows] // _WINDOW
    while len(rows):
        here = rows[: min(int(np.searchsorted(windows, windows[0], "right")), _HEADS_AT_ONCE)]
        start = int(windows[0]) * _WINDOW
        length = min(_WINDOW + PART.size + _ENOUGH, size - start)
        with mmap.mmap(descriptor, length, access=mmap.ACCESS_READ, offset=start) as window:
            irregular = _look(window, start, size, offsets[here], here, heads)
        for row in irregular.tolist():
            _look_closely(row, read_start, heads)
        rows, windows = rows[len(here) :], windows[len(here) :]
    return heads


def _look(window: mmap.mmap, start: int, size: int, offsets: np.ndarray, rows: np.ndarray, heads: Heads) -> np.ndarray:
    """Fill rows of `heads` from a window of the file; return the rows of records that are not of one part."""
    words = np.frombuffer(window, "<u4", len(window) // 4)
    at = (offsets - start) // 4
    magic, part, flag, label, first, second = (words[np.minimum(at + i, len(words) - 1)] for i in (0, 1, 2, 3, 8, 9))
    kind, length = part >> 29, part & MAX_LENGTH
    begins = (magic == np.frombuffer(MAGIC, "<u4")) & (offsets % 4 == 0)
    labels_end = HEADER.size + 4 * flag.astype(np.int64)
    in_file = offsets + PART.size + length <= size
    heads.valid[rows] = begins & (kind == COMPLETE) & in_file & (length >= labels_end)
    heads.labels[rows, 0] = np.where(flag > 0, first, label).astype("<u4").view("<f4")
    heads.labels[rows, 1] = np.where(flag > 1, second.view("<f4"), np.float32(np.nan))
    heads.has_payload[rows] = length > labels_end
    return rows[(offsets % 4 > 0) | (begins & (kind == FIRST))]


def _look_closely(row: int, read_start: ReadStart, heads: Heads) -> None:
    """Fill a row of `heads` for a record of several parts, or one that does not begin at a multiple of 4 bytes."""
    heads.valid[row] = False
    try:
        record = read_start(row, _ENOUGH)
    except UserError:
        return
    flag, label, _, _ = HEADER.unpack_from(record.ljust(HEADER.size, b"\0"))
    shown = min(flag, 2)
    if len(record) < HEADER.size + 4 * shown:
        return
    labels = np.frombuffer(record, "<f4", shown, HEADER.size).tolist() if flag else [label]
    heads.valid[row] = True
    heads.labels[row] = [*labels, np.nan][:2]
    heads.has_payload[row] = len(record) > min(HEADER.size + 4 * flag, _ENOUGH - 1)
