"""Read and write MXNet's indexed RecordIO: PREFIX.rec holds the records, PREFIX.idx says where each of them begins.

A record is a header (flag, label, record id, second id), a label array of `flag` values, and the payload. It is stored
in parts: the magic number, a word with the kind and the length of the part, its bytes, and padding to a multiple of 4.
A record has several parts only if it contains the magic number at a multiple of 4 bytes: it is split there, and the
number is left out. A magic number at a multiple of 4 bytes of the file therefore always begins a part.

The index has a line "record id TAB offset" for every record. MXNet's own reader has one file position and aborts inside
C++ on a damaged file; this one reads from several threads, and its errors name the record.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import weakref
from typing import BinaryIO, Iterator, Sequence, TextIO

import numpy as np

from insightface_mx.base.errors import UserError
from insightface_mx.formats.atomic import atomic_path
from insightface_mx.formats.cache import cached
from insightface_mx.formats.wrong_file import refuse_wrong_file

_MAGIC = struct.pack("<I", 0xCED7230A)
_PART = struct.Struct("<4sI")  # magic number; kind of the part (3 bits) and its length (29 bits)
_HEADER = struct.Struct("<IfQQ")  # flag: number of values of the label array; label; two ids
_COMPLETE, _FIRST, _MIDDLE, _LAST = range(4)  # kinds of part
_MAX_LENGTH = (1 << 29) - 1  # bytes of a part
_READ_AHEAD = 1 << 13  # bytes: most records are read in one step
_PROBES = 64  # records that are looked at when a file is opened
_MAX_BAD_PROBES = 0.1  # fraction of them; if more are damaged, the index is wrong


class RecordFile:
    """Random access to the records of PREFIX.rec through PREFIX.idx; several threads may read at the same time.

    Args:
        path_imgrec: The .rec file, with its .idx file next to it.
        offsets: Where the records 0, 1, 2 ... begin, an int64 array; None: the index says it.

    Attributes:
        path: The .rec file.
        path_idx: The .idx file.
        close: A function that closes the file.

    Raises:
        UserError: A file is missing or empty, or the index does not belong to the records. Single damaged records are
            reported only when they are read.
    """

    def __init__(self, path_imgrec: str, offsets: np.ndarray | None = None) -> None:
        self.path, self.path_idx = path_imgrec, index_path(path_imgrec)
        if offsets is None:
            index = _read_index(self.path_idx)
            self._ids, all_offsets = index["numbers"], index["offsets"]
        else:
            self._ids, all_offsets = np.arange(len(offsets)), offsets
        order = np.argsort(self._ids, kind="stable")
        self._sorted_ids, self._offsets = self._ids[order], all_offsets[order]
        self._consecutive = np.array_equal(self._sorted_ids, np.arange(len(self)))  # true of nearly all sets
        try:
            self._file = os.open(path_imgrec, os.O_RDONLY)
        except OSError as error:
            raise UserError(f"cannot open {path_imgrec}: {error.strerror}") from error
        self.close = weakref.finalize(self, os.close, self._file)
        if offsets is None:
            self._check_index()

    def __len__(self) -> int:
        return len(self._ids)

    def keys(self) -> list[int]:
        """Return the record ids, in the order of the index."""
        return self._ids.tolist()

    def read(self, record_id: int) -> tuple[np.ndarray, bytes]:
        """Read a record.

        Returns:
            The labels, a 1-d float32 array of one value or of the label array, and the payload.

        Raises:
            UserError: The record is damaged or not in the index.
        """
        record = self._read_parts(record_id)
        if len(record) < _HEADER.size:
            raise self._damaged(record_id)
        flag, label, _, _ = _HEADER.unpack_from(record)
        payload = _HEADER.size + 4 * flag
        if payload > len(record):
            raise self._damaged(record_id)
        if not flag:
            return np.array([label], np.float32), record[payload:]
        return np.frombuffer(record, "<f4", flag, _HEADER.size), record[payload:]

    def has_label_array(self, record_id: int) -> bool:
        """Return whether a record has a label array (its flag is above 0)."""
        return bool(_HEADER.unpack_from(self._read_parts(record_id))[0])

    def _offset(self, record_id: int) -> int:
        place = record_id if self._consecutive else int(np.searchsorted(self._sorted_ids, record_id, "right")) - 1
        if not 0 <= place < len(self) or self._sorted_ids[place] != record_id:
            raise UserError(f"{self.path}: record {record_id} is not in {self.path_idx}; rebuild the index")
        return int(self._offsets[place])

    def _read_parts(self, record_id: int) -> bytes:
        """Read all parts of a record and put the magic numbers between them again."""
        parts: list[bytes] = []
        position = self._offset(record_id)
        while True:
            start = os.pread(self._file, _READ_AHEAD, position)
            magic, word = _PART.unpack_from(start.ljust(_PART.size, b"\0"))
            kind, length = word >> 29, word & _MAX_LENGTH
            if magic != _MAGIC or kind > _LAST or bool(parts) != (kind in (_MIDDLE, _LAST)):
                raise self._cut_short(record_id) if len(start) < _PART.size else self._damaged(record_id)
            end = _PART.size + length
            if end > len(start):
                start += os.pread(self._file, end - len(start), position + len(start))
            if end > len(start):
                raise self._cut_short(record_id)
            parts.append(start[_PART.size : end])
            if kind in (_COMPLETE, _LAST):
                return _MAGIC.join(parts)
            position += _stored_length(length)

    def _cut_short(self, record_id: int) -> UserError:
        return UserError(f"{self.path}: cut short inside record {record_id}; copy or build the file again")

    def _damaged(self, record_id: int) -> UserError:
        return UserError(
            f"{self.path}: no valid record {record_id} where {self.path_idx} says; the two do not belong together or "
            "are damaged: rebuild them"
        )

    def _check_index(self) -> None:
        """Look at some records all over the file. Raises UserError if too many of them are damaged."""
        if not os.path.getsize(self.path):
            raise UserError(f"{self.path} is empty; build the data set again")
        probes = np.unique(np.linspace(0, len(self) - 1, _PROBES).round().astype(np.int64))
        problems = [problem for problem in map(self._problem, self._ids[probes].tolist()) if problem]
        if len(problems) > _MAX_BAD_PROBES * len(probes):
            refuse_wrong_file(self.path)
            raise problems[0]

    def _problem(self, record_id: int) -> UserError | None:
        """Return the error that reading a record raises, or None."""
        try:
            self._read_parts(record_id)
        except UserError as error:
            return error
        return None


class RecordWriter:
    """Writes records; `write_records` makes one."""

    def __init__(self, records: BinaryIO, index: TextIO) -> None:
        self._records, self._index, self._position = records, index, 0

    def write(self, record_id: int, label: float | Sequence[float] | np.ndarray, payload: bytes) -> None:
        """Append a record.

        Args:
            record_id: What the index calls it; also the first id of its header.
            label: A number; or a label array, whose length becomes the header's flag.
            payload: An encoded image, or b"".

        Raises:
            UserError: The record has 512 MiB or more, which the format cannot hold.
        """
        if isinstance(label, (int, float, np.number)):
            record = _HEADER.pack(0, label, record_id, 0) + payload
        else:
            labels = np.asarray(label, "<f4")
            record = _HEADER.pack(labels.size, 0, record_id, 0) + labels.tobytes() + payload
        if len(record) > _MAX_LENGTH:
            raise UserError(f"record {record_id} has {len(record)} bytes; RecordIO holds at most {_MAX_LENGTH}")
        stored = b"".join(_parts(record))
        self._records.write(stored)
        self._index.write(f"{record_id}\t{self._position}\n")
        self._position += len(stored)


@contextlib.contextmanager
def write_records(path_imgrec: str) -> Iterator[RecordWriter]:
    """Give a writer of PREFIX.rec and PREFIX.idx; both files appear when the block ends without an error."""
    with contextlib.ExitStack() as files:
        path_rec = files.enter_context(atomic_path(path_imgrec))
        path_idx = files.enter_context(atomic_path(index_path(path_imgrec)))
        records = files.enter_context(open(path_rec, "wb", buffering=1 << 20))
        index = files.enter_context(open(path_idx, "w", encoding="utf-8"))
        yield RecordWriter(records, index)


def index_path(path_imgrec: str) -> str:
    """Return the path of a .rec file's index, PREFIX.idx."""
    return os.path.splitext(path_imgrec)[0] + ".idx"


def find_offsets(path: str) -> np.ndarray:
    """Find where records begin in a .rec file without its index; damaged parts are skipped.

    Returns:
        Offsets in bytes, an int64 array.

    Raises:
        UserError: The file cannot be read or is empty.
    """
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return np.array(list(_first_parts(content)), np.int64)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from error


def _first_parts(content: mmap.mmap) -> Iterator[int]:
    """Yield where records begin."""
    position = 0
    while position + _PART.size <= len(content):
        magic, word = _PART.unpack_from(content, position)
        if magic == _MAGIC and word >> 29 in (_COMPLETE, _FIRST):
            yield position
        end = position + _stored_length(word & _MAX_LENGTH)
        if magic != _MAGIC or not (end == len(content) or content[end : end + 4] == _MAGIC):
            end = _next_magic(content, position + 4)
        position = end


def _parts(record: bytes) -> Iterator[bytes]:
    """Yield the stored bytes of a record: its parts, each with its head, and the padding."""
    start, end = 0, _next_magic(record, 0)
    while end < len(record):
        yield _PART.pack(_MAGIC, (_MIDDLE if start else _FIRST) << 29 | end - start)
        yield record[start:end]
        start = end + len(_MAGIC)
        end = _next_magic(record, start)
    yield _PART.pack(_MAGIC, (_LAST if start else _COMPLETE) << 29 | end - start)
    yield record[start:]
    yield bytes(-len(record) % 4)


def _next_magic(content: bytes | mmap.mmap, start: int) -> int:
    """Find the next magic number at a multiple of 4 bytes; the length of the content if there is none."""
    while True:
        found = content.find(_MAGIC, start)
        if found < 0:
            return len(content)
        if found % 4 == 0:
            return found
        start = found + 1


def _stored_length(length: int) -> int:
    """Return the bytes that a part of `length` bytes takes in the file, with its head and padding."""
    return _PART.size + (length + 3) // 4 * 4


def _read_index(path: str) -> dict[str, np.ndarray]:
    """Read the arrays `numbers` (record ids) and `offsets` of an .idx file, in its order."""
    try:
        if not os.path.getsize(path):
            raise UserError(f"{path} is empty; build the data set again")
        return cached(f"{path}.npz", [path], lambda: _parse_index(path))
    except OSError as error:
        raise UserError(f"cannot open {path}: {error.strerror}; it must lie next to the .rec file") from error


def _parse_index(path: str) -> dict[str, np.ndarray]:
    try:
        table = np.loadtxt(path, dtype=np.int64, delimiter="\t", ndmin=2)
    except ValueError as error:
        refuse_wrong_file(path)
        raise UserError(f"{path} is not an index (lines of 'number TAB offset'): {error}") from error
    if table.shape[1] != 2 or table.min() < 0:
        raise UserError(f"{path} is not an index: lines must be 'number TAB offset'")
    return {"numbers": table[:, 0].copy(), "offsets": table[:, 1].copy()}
