"""Check a file of arrays in MXNet's format, such as PREFIX-NNNN.params, before MXNet reads it.

MXNet believes what the file says of itself, and allocates it: two bits are enough for gigabytes or a crash. So the
headers are read here, and must fit in the file. The file is: 0x112, 0, the number of arrays, the arrays, the number of
names, the names, each as its length and its bytes. An array is: a magic number, since MXNet 1.0 the kind of storage,
its shape, the device, the type, and its values. Numbers are little-endian.
"""

from __future__ import annotations

import math
import os
import struct
from typing import BinaryIO, NamedTuple, Tuple

import numpy as np

from insightface_mx.base import limits
from insightface_mx.base.errors import UserError, shorten
from insightface_mx.files.regular_file import open_regular
from insightface_mx.files.wrong_file import refuse_wrong_file

Shape = Tuple[int, ...]

FILE_MAGIC = 0x112
_V1, _V2, _V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA  # before 0.12 the number of dimensions stands in their place
ARRAY_MAGIC = _V2  # what MXNet 1.9.1 writes
DENSE = 0  # kind of storage
TYPE_NUMBERS = {"float32": 0, "float64": 1, "float16": 2, "uint8": 3, "int32": 4, "int8": 5, "int64": 6, "bool": 7}
_TYPES = {0: 4, 1: 8, 2: 2, 3: 1, 4: 4, 5: 1, 6: 8, 7: 1, 12: 2}  # type -> bytes of a value
_NUMPY_TYPES = {kind: np.dtype(name) for name, kind in TYPE_NUMBERS.items()}
_DEVICE_KINDS = range(1, 7)


class Entry(NamedTuple):
    """An array in a file: its shape, its type's number, and where its values begin, in bytes."""

    shape: Shape
    type: int
    offset: int


def check_arrays(path: str) -> dict[str, Shape]:
    """Check that what a file of arrays claims is in it, and return the shapes of its arrays by name.

    Raises:
        UserError: It cannot be opened, or is damaged or foreign; the message says where.
    """
    return {name: entry.shape for name, entry in _entries(path).items()}


def map_arrays(path: str) -> dict[str, np.ndarray]:
    """Return the arrays in a file by name as memory maps: reading some rows does not read the others.

    Raises:
        UserError: As `check_arrays`, or an array has a type that numpy does not know.
    """
    entries = _entries(path)
    unknown = [name for name, entry in entries.items() if entry.type not in _NUMPY_TYPES]
    if unknown:
        raise UserError(f"cannot read {path}: {unknown[0]} has the type {entries[unknown[0]].type}, unknown to numpy")
    return {
        name: np.memmap(path, _NUMPY_TYPES[entry.type], "r", entry.offset, entry.shape)
        for name, entry in entries.items()
    }


def _entries(path: str) -> dict[str, Entry]:
    """Check a file of arrays, and return where its arrays are; raises UserError as `check_arrays`."""
    try:
        with open_regular(path) as file:
            return _check_file(_Reader(file))
    except OSError as error:
        raise UserError(f"cannot open {path}: {error.strerror}") from error
    except ValueError as error:
        refuse_wrong_file(path)
        raise UserError(f"cannot read {path}: not an MXNet file, or damaged ({error})") from error


class _Reader:
    """Reads numbers, and skips values; ValueError where the file ends before."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._left = file, os.fstat(file.fileno()).st_size

    def numbers(self, form: str) -> tuple[int, ...]:
        """Read numbers in a form of `struct`."""
        size = struct.calcsize(f"<{form}")
        return struct.unpack(f"<{form}", self.bytes(size))

    def bytes(self, size: int) -> bytes:
        """Read bytes."""
        self._take(size)
        return self._file.read(size)

    def skip(self, size: int) -> None:
        """Go on behind values."""
        self._take(size)
        self._file.seek(size, os.SEEK_CUR)

    @property
    def place(self) -> int:
        """Bytes before the next number."""
        return self._file.tell()

    def _take(self, size: int) -> None:
        if size > self._left:
            raise ValueError(f"it says that {size} more bytes follow where {self._left} are left")
        self._left -= size


def _check_file(file: _Reader) -> dict[str, Entry]:
    magic, reserved, arrays = file.numbers("QQQ")
    if magic != FILE_MAGIC or reserved:
        raise ValueError("it does not begin as files of arrays do")
    if arrays > limits.MAX_PARAMETERS:
        raise ValueError(f"it says that it holds {arrays} arrays, more than {limits.MAX_PARAMETERS}")
    entries = [_check_array(f"array {index}", file) for index in range(arrays)]
    (names,) = file.numbers("Q")
    if names not in (0, arrays):
        raise ValueError(f"it says that it holds {names} names for {arrays} arrays")
    known: dict[str, Entry] = {}
    for index in range(names):
        (length,) = file.numbers("Q")
        if length > limits.MAX_GRAPH_NAME:
            raise ValueError(f"the name of array {index} has {length} bytes, more than {limits.MAX_GRAPH_NAME}")
        name = file.bytes(length).decode("utf-8")
        if name in known or not name.isprintable():
            raise ValueError(f"two arrays are named {shorten(name)}, or the name holds control characters")
        known[name] = entries[index]
    return known


def _check_array(where: str, file: _Reader) -> Entry:
    """Check an array, go on behind it, and return where it is."""
    (magic,) = file.numbers("I")
    if magic in (_V2, _V3):
        (storage,) = file.numbers("i")
        if storage != DENSE:
            raise ValueError(f"{where} is sparse (storage {storage}), which no network here is")
    has_dimensions = magic in (_V1, _V2, _V3)
    dimensions = file.numbers("I")[0] if has_dimensions else magic
    if not 0 < dimensions <= limits.MAX_DIMENSIONS:
        raise ValueError(f"{where} has {dimensions} dimensions, not 1 to {limits.MAX_DIMENSIONS}")
    shape = file.numbers(f"{dimensions}{'q' if has_dimensions else 'I'}")
    device, index, kind = file.numbers("iii")
    if min(shape) < 1:
        raise ValueError(f"{where} has the shape {shape}")
    if device not in _DEVICE_KINDS or not 0 <= index < limits.MAX_DEVICES or kind not in _TYPES:
        raise ValueError(f"{where} is of the type {kind} on the device {device}, {index}, which do not exist")
    entry = Entry(shape, kind, file.place)
    file.skip(math.prod(shape) * _TYPES[kind])
    return entry
