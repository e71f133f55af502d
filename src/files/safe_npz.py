"""Read .npz and .npy files from others: nothing is unpickled or evaluated, and no more read than the file can hold.

The sizes are checked first, in the directory of the zip file and in the header of each array.
"""

from __future__ import annotations

import math
import os
import re
import struct
import sys
import zipfile
import zlib
from typing import IO, BinaryIO

import numpy as np

from insightface_mx.base.errors import shorten
from insightface_mx.base.limits import (
    MAX_ARRAY_HEADER,
    MAX_ARRAYS,
    MAX_DIMENSIONS,
    MAX_INFLATION,
    MAX_ZIP_DIRECTORY,
    SMALL_ARRAYS,
)
from insightface_mx.files.regular_file import open_regular
from insightface_mx.files.wrong_file import LENGTH, name_of_wrong_file

_BLOCK = 1 << 20  # bytes that are read at a time
_MAGIC = b"\x93NUMPY"
_HEADER_LENGTH = {1: "<H", 2: "<I", 3: "<I"}  # by version of the .npy format
_HEADER = re.compile(
    rb"""\{\s*(['"])descr\1\s*:\s*(['"])([<>|=]?(?:b1|[iu][1248]|f[248]|[US][1-9]\d{0,8}))\2\s*,"""
    rb"""\s*(['"])fortran_order\4\s*:\s*(True|False)\s*,"""
    rb"""\s*(['"])shape\6\s*:\s*\(((?:\s*\d{1,18}\s*,)*(?:\s*\d{1,18})?)\s*\)\s*,?\s*\}\s*"""
)
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 1  # bit of a zip entry's flags
# what zipfile raises for a damaged file
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)


class BadArrays(Exception):
    """A file does not hold plain arrays as numpy writes them; the message says why, and does not name the file."""


class _Zip:
    """A zip file that refuses to read much at once: zipfile reads the whole directory, whatever its size."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1, /) -> bytes:
        if size > MAX_ZIP_DIRECTORY:
            raise BadArrays(f"its directory takes {size} bytes")
        return self._file.read(size)


def read_npz(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Return the arrays of a .npz file by name: of booleans, integers, floats or text.

    Args:
        path: A file of np.savez or np.savez_compressed.

    Raises:
        OSError: The file cannot be opened.
        BadArrays: It is none, is damaged, or claims to hold more than it can.
    """
    with open_regular(path) as file:
        start = file.read(LENGTH)
        if start.startswith(_MAGIC):
            raise BadArrays("it is one array (.npy), not a .npz file")
        if not start.startswith(b"PK") and name_of_wrong_file(start):
            raise BadArrays(f"it is {name_of_wrong_file(start)}")
        try:
            with zipfile.ZipFile(_Zip(file)) as archive:
                return _read_entries(archive, os.fstat(file.fileno()).st_size)
        except _DAMAGE as error:
            raise BadArrays(f"it is no .npz file, or damaged: {shorten(error)}") from error


def read_npy(path: str | os.PathLike[str]) -> np.ndarray:
    """Return the array of a .npy file: of booleans, integers, floats or text. Raises as `read_npz`."""
    with open_regular(path) as file:
        return _read_array(file, os.fstat(file.fileno()).st_size)


def _read_entries(archive: zipfile.ZipFile, size: int) -> dict[str, np.ndarray]:
    """Read all arrays of a zip file of `size` bytes."""
    entries = archive.infolist()
    if len(entries) > MAX_ARRAYS:
        raise BadArrays(f"it holds {len(entries)} arrays, more than {MAX_ARRAYS}")
    total = sum(entry.file_size for entry in entries)
    if total > max(size * MAX_INFLATION, SMALL_ARRAYS):
        raise BadArrays(f"its {size} bytes would become {total}")
    arrays: dict[str, np.ndarray] = {}
    for entry in entries:
        name, ending = os.path.splitext(entry.filename)
        shown = f"'{shorten(name)}'"
        if ending != ".npy" or name in arrays:
            raise BadArrays(f"it holds {shown} twice" if name in arrays else f"it holds {shown}, which is no array")
        if entry.flag_bits & _ENCRYPTED or entry.compress_type not in _METHODS:
            raise BadArrays(f"array {shown} is encrypted, or packed by another method than numpy's")
        with archive.open(entry) as stream:
            try:
                arrays[name] = _read_array(stream, entry.file_size)
            except BadArrays as error:
                raise BadArrays(f"array {shown}: {error}") from error
    return arrays


def _read_array(stream: IO[bytes], size: int) -> np.ndarray:
    """Read an array in .npy format that takes `size` bytes in all."""
    start = stream.read(len(_MAGIC) + 2)
    version = start[-2] if start[: len(_MAGIC)] == _MAGIC and len(start) == len(_MAGIC) + 2 else 0
    if version not in _HEADER_LENGTH:
        raise BadArrays("it is no array in .npy format")
    packed = stream.read(struct.calcsize(_HEADER_LENGTH[version]))
    (length,) = struct.unpack(_HEADER_LENGTH[version], packed) if len(packed) >= 2 else (0,)
    header = stream.read(length) if length <= MAX_ARRAY_HEADER else b""
    found = _HEADER.fullmatch(header)
    if found is None:
        raise BadArrays("its header is not that of an array of booleans, integers, floats or text")
    dtype = np.dtype(found.group(3).decode("ascii"))
    shape = tuple(int(part) for part in found.group(7).decode("ascii").split(",") if part.strip())
    if len(shape) > MAX_DIMENSIONS or math.prod(max(side, 1) for side in shape) >= 1 << 60:
        raise BadArrays(f"its header says {len(shape)} dimensions, or a size that no memory holds")
    total = math.prod(shape) * dtype.itemsize
    if total != size - len(start) - len(packed) - length:
        raise BadArrays(f"its header says shape {shape}, which is not what follows")
    content, filled = bytearray(total), 0
    while filled < total:
        block = stream.read(min(_BLOCK, total - filled))
        if not block:
            raise BadArrays("it ends too early")
        content[filled : filled + len(block)] = block
        filled += len(block)
    stream.read(1)  # at the end zipfile compares the checksum
    array: np.ndarray = np.ndarray(shape, dtype, content, order="F" if found.group(5) == b"True" else "C")
    _check_values(array)
    return array


def _check_values(array: np.ndarray) -> None:
    """Raise BadArrays for bytes that are no value of the array's type; numpy trusts them."""
    if array.dtype.kind == "b" and array.view(np.uint8).max(initial=0) > 1:
        raise BadArrays("it has values that are neither true nor false")
    flat = array.ravel(order="K")
    if array.dtype.kind == "U" and flat.view(f"{array.dtype.byteorder}u4").max(initial=0) > sys.maxunicode:
        raise BadArrays("its text has characters that do not exist")
