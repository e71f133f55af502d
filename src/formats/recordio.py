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
import io
import mmap
import os
import sys
import warnings
import weakref
from typing import BinaryIO, Iterator, Sequence, TextIO

import numpy as np

from insightface_mx.base.errors import UserError, shorten
from insightface_mx.base.limits import MAX_WORD
from insightface_mx.files.atomic import atomic_path
from insightface_mx.files.cache import cached
from insightface_mx.files.regular_file import open_regular
from insightface_mx.files.wrong_file import refuse_wrong_file
from insightface_mx.formats.record_heads import Heads, read_heads
from insightface_mx.formats.record_parts import (
    COMPLETE,
    HEADER,
    LAST,
    MAGIC,
    MAX_LENGTH,
    MIDDLE,
    PART,
    first_parts,
    stored_length,
    stored_parts,
)

_READ_AHEAD = 1 << 13  # bytes: most records are read in one step
_PROBES = 64  # records that are looked at when a file is opened
_MAX_BAD_PROBES = 0.1  # fraction of them; if more are damaged, the index is wrong
LARGEST_EXACT = 1 << 24  # float32 holds all whole numbers up to here, and not all above


class RecordFile:
    """Random access to the records of PREFIX.rec through PREFIX.idx; several threads may read at the same time.

    Args:
        path_imgrec: The .rec file, with its .idx file next to it.
        offsets: Where the records 0, 1, 2 ... begin, an int64 array; None: the index says it.

    Attributes:
        path: The .rec file.
        path_idx: The .idx file.
        record_ids: The record ids, in the order of the index, an int64 array.
        close: A function that closes the file.

    Raises:
        UserError: A file is missing or empty, or the index does not belong to the records. Single damaged records are
            reported only when they are read.
    """

    def __init__(self, path_imgrec: str, offsets: np.ndarray | None = None) -> None:
        self.path, self.path_idx = path_imgrec, index_path(path_imgrec)
        if offsets is None:
            index = _read_index(self.path_idx)
            self.record_ids, all_offsets = index["numbers"], index["offsets"]
        else:
            self.record_ids, all_offsets = np.arange(len(offsets)), offsets
        order = np.argsort(self.record_ids, kind="stable")
        self._sorted_ids, self._offsets = self.record_ids[order], all_offsets[order]
        self._consecutive = np.array_equal(self._sorted_ids, np.arange(len(self)))  # true of nearly all sets
        try:
            file = open_regular(path_imgrec)
        except OSError as error:
            raise UserError(f"cannot open {path_imgrec}: {error.strerror}") from error
        self.close = weakref.finalize(self, file.close)
        self._file = file.fileno()
        self._size = os.fstat(self._file).st_size
        if offsets is None:
            self._check_index()

    def __len__(self) -> int:
        return len(self.record_ids)

    def keys(self) -> list[int]:
        """Return the record ids, in the order of the index."""
        return self.record_ids.tolist()

    def read(self, record_id: int) -> tuple[np.ndarray, bytes]:
        """Read a record.

        Returns:
            The labels, a 1-d float32 array of one value or of the label array, and the payload.

        Raises:
            UserError: The record is damaged or not in the index.
        """
        record = self._read_parts(record_id)
        if len(record) < HEADER.size:
            raise self._damaged(record_id)
        flag, label, _, _ = HEADER.unpack_from(record)
        payload = HEADER.size + 4 * flag
        if payload > len(record):
            raise self._damaged(record_id)
        if not flag:
            return np.array([label], np.float32), record[payload:]
        return np.frombuffer(record, "<f4", flag, HEADER.size), record[payload:]

    def offsets(self, record_ids: np.ndarray) -> np.ndarray:
        """Return where records begin, int64, as the index says; -1 for ids that are not in the index."""
        if self._consecutive:
            places = np.clip(record_ids, 0, len(self) - 1)
        else:
            places = np.searchsorted(self._sorted_ids, record_ids, "right") - 1
        return np.where(self._sorted_ids[places] == record_ids, self._offsets[places], -1)

    def heads(self, record_ids: np.ndarray) -> Heads:
        """Look at many records, an int64 array of ids. One that is not in the index is not valid."""

        def read_start(row: int, enough: int) -> bytes:
            return self._read_parts(int(record_ids[row]), enough)

        return read_heads(self._file, self._size, self.offsets(record_ids), read_start)

    def _offset(self, record_id: int) -> int:
        place = record_id if self._consecutive else int(np.searchsorted(self._sorted_ids, record_id, "right")) - 1
        if not 0 <= place < len(self) or self._sorted_ids[place] != record_id:
            raise UserError(f"{self.path}: record {record_id} is not in {self.path_idx}; rebuild the index")
        offset = int(self._offsets[place])
        if not 0 <= offset <= self._size:
            raise self._damaged(record_id)
        return offset

    def _read_parts(self, record_id: int, enough: int = sys.maxsize) -> bytes:
        """Read the parts of a record, or those of its first `enough` bytes, and put the magic numbers between them."""
        parts: list[bytes] = []
        position, found = self._offset(record_id), 0
        while True:
            start = os.pread(self._file, _READ_AHEAD, position)
            magic, word = PART.unpack_from(start.ljust(PART.size, b"\0"))
            kind, length = word >> 29, word & MAX_LENGTH
            if magic != MAGIC or kind > LAST or bool(parts) != (kind in (MIDDLE, LAST)):
                raise self._cut_short(record_id) if len(start) < PART.size else self._damaged(record_id)
            end = PART.size + min(length, enough)
            if end > len(start):
                start += os.pread(self._file, end - len(start), position + len(start))
            if end > len(start):
                raise self._cut_short(record_id)
            parts.append(start[PART.size : end])
            found += length + len(MAGIC)
            if kind in (COMPLETE, LAST) or found > enough:
                return MAGIC.join(parts)
            position += stored_length(length)

    def _cut_short(self, record_id: int) -> UserError:
        return UserError(f"{self.path}: cut short inside record {record_id}; copy or build the file again")

    def _damaged(self, record_id: int) -> UserError:
        return UserError(
            f"{self.path}: no valid record {record_id} where {self.path_idx} says; the two do not belong together or "
            "are damaged: rebuild them"
        )

    def _check_index(self) -> None:
        """Look at some records all over the file. Raises UserError if too many of them are damaged."""
        if not self._size:
            raise UserError(f"{self.path} is empty; build the data set again")
        probes = np.unique(np.linspace(0, len(self) - 1, _PROBES).round().astype(np.int64))
        problems = [problem for problem in map(self._problem, self.record_ids[probes].tolist()) if problem]
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
            UserError: The record has 512 MiB or more, or a whole number as label that float32 does not hold exactly.
        """
        if isinstance(label, (int, float, np.number)):
            self._check_exact(record_id, [label])
            record = HEADER.pack(0, label, record_id, 0) + payload
        else:
            self._check_exact(record_id, label)
            labels = np.asarray(label, "<f4")
            record = HEADER.pack(labels.size, 0, record_id, 0) + labels.tobytes() + payload
        if len(record) > MAX_LENGTH:
            raise UserError(f"record {record_id} has {len(record)} bytes; RecordIO holds at most {MAX_LENGTH}")
        stored = b"".join(stored_parts(record))
        self._records.write(stored)
        self._index.write(f"{record_id}\t{self._position}\n")
        self._position += len(stored)

    @staticmethod
    def _check_exact(record_id: int, labels: Sequence[float] | np.ndarray) -> None:
        for label in labels:
            whole = int(label) if isinstance(label, (int, np.integer)) else 0
            if abs(whole) > LARGEST_EXACT and int(np.float32(whole)) != whole:
                raise UserError(
                    f"record {record_id}: its label {label} is rounded in the format, whose labels are float32"
                )


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
        UserError: The file cannot be read or holds no record.
    """
    try:
        with open_regular(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            offsets = np.array(list(first_parts(content)), np.int64)
    except (OSError, ValueError) as error:
        refuse_wrong_file(path)
        raise UserError(f"cannot read {path}: {error}") from error
    if not len(offsets):
        refuse_wrong_file(path)
        raise UserError(f"{path} holds no record")
    return offsets


def _read_index(path: str) -> dict[str, np.ndarray]:
    """Read the arrays `numbers` (record ids) and `offsets` of an .idx file, in its order."""
    try:
        if os.path.isfile(path) and not os.path.getsize(path):
            raise UserError(f"{path} is empty; build the data set again")
        dtypes = {"numbers": np.int64, "offsets": np.int64}
        return cached(f"{path}.npz", [path], path, dtypes, lambda: _parse_index(path))
    except OSError as error:
        raise UserError(f"cannot open {path}: {error.strerror}; it must lie next to the .rec file") from error


def _parse_index(path: str) -> dict[str, np.ndarray]:
    try:
        with open_regular(path) as file, warnings.catch_warnings():
            warnings.simplefilter("error")  # of numbers with a point, and of no line
            lines = io.TextIOWrapper(file, encoding="utf-8")
            table = np.loadtxt(lines, dtype=np.int64, delimiter="\t", ndmin=2)
    except (ValueError, Warning) as error:
        refuse_wrong_file(path)
        problem = shorten(error, MAX_WORD)
        raise UserError(f"{path} is not an index (lines of 'number TAB offset'): {problem}") from error
    if table.shape[1] != 2 or table.min() < 0:
        raise UserError(f"{path} is not an index: lines must be 'number TAB offset'")
    return {"numbers": table[:, 0].copy(), "offsets": table[:, 1].copy()}
