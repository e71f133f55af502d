"""Reading MXNet's indexed RecordIO (train.rec + train.idx) from several threads, with errors that name the record.

MXNet's own reader has one file position and aborts inside C++ on a damaged file. Writing is left to it.
Layout of a record: magic, length, an IRHeader (flag, label, two ids), `flag` further label values, the payload; a
payload that holds the magic number itself is split there into parts.
"""

import os
import struct
import weakref

import numpy as np

from insightface_mx.errors import UserError

_MAGIC = 0xCED7230A
_PART = struct.Struct("<II")  # magic, kind of part (3 bits) and length (29 bits)
_HEADER = struct.Struct("<IfQQ")  # flag: number of label values behind the header; label; two ids
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)
_PROBES = 64  # records whose place is checked when a file is opened


class RecordFile:
    """Random access to the records of PREFIX.rec through PREFIX.idx; safe to read from several threads.

    Raises UserError where a file is missing, empty, or where the index does not belong to the records.
    """

    def __init__(self, path_imgrec):
        self.path = path_imgrec
        self.path_idx = os.path.splitext(path_imgrec)[0] + ".idx"
        self._offsets = _read_index(self.path_idx)
        try:
            self._file = os.open(path_imgrec, os.O_RDONLY)
        except OSError as error:
            raise UserError(f"cannot open {path_imgrec}: {error.strerror}") from error
        self.close = weakref.finalize(self, os.close, self._file)
        self._check_index()

    def __len__(self):
        return len(self._offsets)

    def keys(self):
        """Record numbers in the index's order."""
        return list(self._offsets)

    def read(self, number):
        """Labels (1-d float32 array) and payload (bytes) of record `number`."""
        if number not in self._offsets:
            raise UserError(f"{self.path}: record {number} is not in {self.path_idx}; rebuild the index")
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

    def _read_parts(self, number):
        position, parts = self._offsets[number], []
        while True:
            magic, word = _PART.unpack(self._pread(_PART.size, position, number))
            kind, length = word >> 29, word & (1 << 29) - 1
            if magic != _MAGIC or kind > _LAST or bool(parts) != (kind in (_MIDDLE, _LAST)):
                raise self._damaged(number)
            parts.append(self._pread(length, position + _PART.size, number))
            if kind in (_WHOLE, _LAST):
                return struct.pack("<I", _MAGIC).join(parts)
            position += _PART.size + (length + 3) // 4 * 4

    def _pread(self, size, position, number):
        data = os.pread(self._file, size, position)
        if len(data) < size:
            raise UserError(f"{self.path}: cut short inside record {number}; copy or build the file again")
        return data

    def _damaged(self, number):
        return UserError(
            f"{self.path}: no valid record {number} where {self.path_idx} says; the two do not belong together or "
            "are damaged: rebuild them"
        )

    def _check_index(self):
        if not os.path.getsize(self.path):
            raise UserError(f"{self.path} is empty; build the data set again")
        numbers = self.keys()
        for probe in sorted({round(i) for i in np.linspace(0, len(numbers) - 1, _PROBES)}):
            self._read_parts(numbers[probe])


def _read_index(path):
    """Offsets by record number."""
    try:
        if not os.path.getsize(path):
            raise UserError(f"{path} is empty; build the data set again")
        table = np.loadtxt(path, dtype=np.int64, delimiter="\t", ndmin=2)
    except OSError as error:
        raise UserError(f"cannot open {path}: {error.strerror}; it must lie beside the .rec file") from error
    except ValueError as error:
        raise UserError(f"{path} is not an index (lines of 'number TAB offset'): {error}") from error
    if table.shape[1] != 2:
        raise UserError(f"{path} is not an index: lines must be 'number TAB offset'")
    return dict(zip(table[:, 0].tolist(), table[:, 1].tolist()))
