"""Write arrays in MXNet's format piece by piece: the bytes of mx.nd.save, with no second copy of the arrays in memory.

`params_file` describes the format.
"""

from __future__ import annotations

import errno
import math
import struct
import zlib
from typing import Any, BinaryIO, Callable, Iterator, Mapping, NamedTuple, Protocol

import numpy as np

from insightface_mx.formats.params_file import ARRAY_MAGIC, DENSE, FILE_MAGIC, TYPE_NUMBERS, Shape

_CPU = 1  # kind of device
_PIECE = 1 << 20  # bytes of a file to read at a time
_START = 1  # Adler-32 of nothing; it takes half the time of CRC-32


class Array(Protocol):
    """An array of MXNet in CPU memory."""

    shape: Shape
    dtype: Any

    def asnumpy(self) -> np.ndarray:
        """Return its values."""


class Rows(NamedTuple):
    """A float32 array that is not in one piece: its shape, and a function that yields its rows in order."""

    shape: Shape
    pieces: Callable[[], Iterator[np.ndarray]]

    @property
    def size(self) -> int:
        """Numbers in the array, as an array of MXNet has it."""
        return math.prod(self.shape)


def write_arrays(path: str, arrays: Mapping[str, Array | Rows]) -> None:
    """Write arrays by name, and read the file again to see that it is on the disk as it was written.

    Args:
        path: The file; it may be there.
        arrays: Arrays of MXNet in CPU memory, or in pieces.

    Raises:
        OSError: The file cannot be written, or the disk returns something else.
    """
    with open(path, "wb") as file:
        writer = _Checksum(file)
        writer.write(struct.pack("<QQQ", FILE_MAGIC, 0, len(arrays)))
        for array in arrays.values():
            _write_array(writer, array)
        writer.write(struct.pack("<Q", len(arrays)))
        for name in arrays:
            encoded = name.encode("utf-8")
            writer.write(struct.pack("<Q", len(encoded)) + encoded)
    if _checksum_of(path) != writer.value:
        raise OSError(errno.EIO, "the disk does not return what was written")


class _Checksum:
    """Writes to a file and keeps the Adler-32 checksum of what was written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.value = file, _START

    def write(self, content: bytes | memoryview) -> None:
        """Write bytes."""
        self._file.write(content)
        self.value = zlib.adler32(content, self.value)


def _write_array(file: _Checksum, array: Array | Rows) -> None:
    pieces = array.pieces() if isinstance(array, Rows) else iter([array.asnumpy()])
    kind = "float32" if isinstance(array, Rows) else np.dtype(array.dtype).name
    shape = array.shape
    file.write(struct.pack(f"<IiI{len(shape)}q", ARRAY_MAGIC, DENSE, len(shape), *shape))
    file.write(struct.pack("<iii", _CPU, 0, TYPE_NUMBERS[kind]))
    for piece in pieces:
        file.write(np.ascontiguousarray(piece).reshape(-1).view(np.uint8).data)


def _checksum_of(path: str) -> int:
    value, piece = _START, memoryview(bytearray(_PIECE))
    with open(path, "rb", buffering=0) as file:
        while True:
            size = file.readinto(piece)
            if not size:
                return value
            value = zlib.adler32(piece[:size], value)
