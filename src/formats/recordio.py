"""Reading MXNet's indexed RecordIO (train.rec + train.idx) from several threads, with errors that name the record.

MXNet's own reader has one file position and aborts inside C++ on a damaged file. Writing is left to it.
Layout of a record: magic, length, an IRHeader (flag, label, two ids), `flag` further label values, the payload; a
payload that holds the magic number itself is split there into parts.
"""

import mmap
import os
import struct
import weakref

import numpy as np

from insightface_mx.base.errors import UserError
from insightface_mx.formats.cache import cached

_MAGIC = 0xCED7230A
_PART = struct.Struct("<II")  # magic, kind of part (3 bits) and length (29 bits)
_HEADER = struct.Struct("<IfQQ")  # flag: number of label values behind the header; label; two ids
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)
_AT_ONCE = 1 << 13  # bytes: most records in one reading
_PROBES = 64  # records whose place is checked when a file is opened
_BAD_PROBES = 0.1  # share of them, above which it is the index that is wrong


class RecordFile:
    """Random access to the records of PREFIX.rec through PREFIX.idx; safe to read from several threads.

    offsets: of the records 0, 1, 2 ... where the index is not to be used. Raises UserError where a file is missing,
    empty, or where the index does not belong to the records. Single damaged records show only when they are read.
    """

    def __init__(self, path_imgrec, offsets=None):
        self.path = path_imgrec
        self.path_idx = os.path.splitext(path_imgrec)[0] + ".idx"
        index = _read_index(self.path_idx) if offsets is None else _consecutive(offsets)
        self._numbers = index["numbers"]
        order = np.argsort(self._numbers, kind="stable")
        self._sorted, self._offsets = self._numbers[order], index["offsets"][order]
        self._consecutive = np.array_equal(self._sorted, np.arange(len(self)))  # true of nearly all sets
        try:
            self._file = os.open(path_imgrec, os.O_RDONLY)
        except OSError as error:
            raise UserError(f"cannot open {path_imgrec}: {error.strerror}") from error
        self.close = weakref.finalize(self, os.close, self._file)
        if offsets is None:
            self._check_index()

    def __len__(self):
        return len(self._numbers)

    def keys(self):
        """Record numbers in the index's order."""
        return self._numbers.tolist()

    def read(self, number):
        """Labels (1-d float32 array) and payload (bytes) of record `number`."""
        record = self._read_parts(number)
        if len(record) < _HEADER.size:
            raise self._damaged(number)
        flag, label, _, _ = _HEADER.unpack_from(record)
        payload = _HEADER.size + 4 * flag
        if payload > len(record):
            raise self._damaged(number)
        if not flag:
            return np.array([label], np.float32), record[payload:]
        return np.frombuffer(record, "<f4", flag, _HEADER.size), record[payload:]

    def has_label_array(self, number):
        """Whether a record's header carries a label array (flag above 0)."""
        return bool(_HEADER.unpack_from(self._read_parts(number))[0])

    def _offset(self, number):
        place = number if self._consecutive else int(np.searchsorted(self._sorted, number, "right")) - 1
        if not 0 <= place < len(self) or self._sorted[place] != number:
            raise UserError(f"{self.path}: record {number} is not in {self.path_idx}; rebuild the index")
        return int(self._offsets[place])

    def _read_parts(self, number):
        position, parts = self._offset(number), []
        while True:
            start = os.pread(self._file, _AT_ONCE, position)
            magic, word = _PART.unpack_from(start.ljust(_PART.size, b"\0"))
            kind, length = word >> 29, word & (1 << 29) - 1
            if magic != _MAGIC or kind > _LAST or bool(parts) != (kind in (_MIDDLE, _LAST)):
                raise self._cut_short(number) if len(start) < _PART.size else self._damaged(number)
            parts.append(self._content(start, length, position, number))
            if kind in (_WHOLE, _LAST):
                return struct.pack("<I", _MAGIC).join(parts)
            position += _PART.size + (length + 3) // 4 * 4

    def _content(self, start, length, position, number):
        """The `length` bytes behind a part's head at `position`, of which `start` was read."""
        end = _PART.size + length
        if end > len(start):
            start += os.pread(self._file, end - len(start), position + len(start))
        if end > len(start):
            raise self._cut_short(number)
        return start[_PART.size : end]

    def _cut_short(self, number):
        return UserError(f"{self.path}: cut short inside record {number}; copy or build the file again")

    def _damaged(self, number):
        return UserError(
            f"{self.path}: no valid record {number} where {self.path_idx} says; the two do not belong together or "
            "are damaged: rebuild them"
        )

    def _check_index(self):
        if not os.path.getsize(self.path):
            raise UserError(f"{self.path} is empty; build the data set again")
        probes = np.unique(np.linspace(0, len(self) - 1, _PROBES).round().astype(np.int64))
        problems = [problem for problem in map(self._problem, self._numbers[probes].tolist()) if problem]
        if len(problems) > _BAD_PROBES * len(probes):
            raise problems[0]

    def _problem(self, number):
        """The UserError that reading a record raises, or None."""
        try:
            self._read_parts(number)
        except UserError as error:
            return error
        return None


def _read_index(path):
    """Arrays `numbers` and `offsets` of an .idx file, in its order."""
    try:
        if not os.path.getsize(path):
            raise UserError(f"{path} is empty; build the data set again")
        return cached(f"{path}.npz", [path], lambda: _parse_index(path))
    except OSError as error:
        raise UserError(f"cannot open {path}: {error.strerror}; it must lie beside the .rec file") from error


def _consecutive(offsets):
    return {"numbers": np.arange(len(offsets)), "offsets": offsets}


def find_offsets(path):
    """Where records begin in a .rec file, whatever its index says: an int64 array. Damaged parts are passed over.

    The magic number stands at the heads of parts alone, for payloads that hold it are split there. Raises UserError for
    a file that cannot be read or is empty.
    """
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return np.array(list(_heads(content)), np.int64)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from error


def _heads(content):
    magic, position = struct.pack("<I", _MAGIC), 0
    while position + _PART.size <= len(content):
        word = _PART.unpack_from(content, position)[1]
        if content[position : position + 4] == magic and word >> 29 in (_WHOLE, _FIRST):
            yield position
        end = position + _PART.size + ((word & (1 << 29) - 1) + 3) // 4 * 4
        if content[position : position + 4] != magic or not (end == len(content) or content[end : end + 4] == magic):
            end = _next_aligned(content, magic, position + 4)
        position = end


def _next_aligned(content, magic, start):
    while True:
        found = content.find(magic, start)
        if found < 0 or found % 4 == 0:
            return len(content) if found < 0 else found
        start = found + 1


def _parse_index(path):
    try:
        table = np.loadtxt(path, dtype=np.int64, delimiter="\t", ndmin=2)
    except ValueError as error:
        raise UserError(f"{path} is not an index (lines of 'number TAB offset'): {error}") from error
    if table.shape[1] != 2 or table.min() < 0:
        raise UserError(f"{path} is not an index: lines must be 'number TAB offset'")
    return {"numbers": table[:, 0].copy(), "offsets": table[:, 1].copy()}
