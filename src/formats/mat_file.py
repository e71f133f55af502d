"""Read the pairs of a .mat file, as AgeDB publishes them, from strangers.

The file is Matlab's level 5: elements of a type, a size and data. Only cells, structures, texts and numbers are read.
scipy.io.loadmat is not used: it crashes on files with a changed byte, and allocates what sizes in the file say.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any, Iterator

import numpy as np

from insightface_mx.base.errors import UserError
from insightface_mx.base.limits import MAX_MAT_BYTES, MAX_MAT_DEPTH, MAX_MAT_ELEMENTS
from insightface_mx.files.regular_file import open_regular
from insightface_mx.files.wrong_file import refuse_wrong_file

_HEADER = 128  # bytes
_MATRIX, _COMPRESSED = 14, 15  # types of elements
_CELL, _STRUCT, _CHAR = 1, 2, 4  # classes of a matrix
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_LABELS = (1, -1, 0)


def read_splits(path: str) -> list[tuple[str, str, bool]]:
    """Read pairs: two names, and whether they are of one identity.

    The file holds `splits`, or as its only variable cells, of ten splits. A split is a structure or cells of two lists
    of names, or one of two columns, and a list of labels, 1 or -1; or it is rows of name, name, label.

    Raises:
        UserError: The file cannot be opened, is damaged, or holds something else.
    """
    try:
        with open_regular(path) as file:
            content = file.read(MAX_MAT_BYTES + 1)
    except OSError as error:
        raise UserError(f"cannot open {path}: {error.strerror}") from error
    try:
        return _pairs(_Reader(content).variables())
    except (ValueError, struct.error, zlib.error) as error:
        refuse_wrong_file(path)
        raise UserError(f"{path} is no .mat file of pairs in splits: {error}; see --format") from error


class _Reader:
    """Reads the variables of a file: cells as arrays of objects, a structure as a tuple of its fields."""

    def __init__(self, content: bytes) -> None:
        """Check the header. Raises ValueError."""
        if len(content) > MAX_MAT_BYTES:
            raise ValueError(f"it has more than {MAX_MAT_BYTES} bytes")
        if content[:8] == b"\x89HDF\r\n\x1a\n" or content[:19] == b"MATLAB 7.3 MAT-file":
            raise ValueError("it is of Matlab 7.3: save it with -v7")
        if len(content) < _HEADER or content[126:128] not in (b"IM", b"MI"):
            raise ValueError("it has not the header of Matlab 5")
        self._order = "<" if content[126:128] == b"IM" else ">"
        self._content, self._left = memoryview(content)[_HEADER:], MAX_MAT_ELEMENTS

    def variables(self) -> dict[str, Any]:
        """Return all variables by name. Raises ValueError, and what struct and zlib raise."""
        found: dict[str, Any] = {}
        unpacked = 0
        for kind, data in self._elements(self._content):
            elements = iter([(kind, data)])
            if kind == _COMPRESSED:
                content = zlib.decompressobj().decompress(data, MAX_MAT_BYTES - unpacked + 1)
                unpacked += len(content)
                if unpacked > MAX_MAT_BYTES:
                    raise ValueError(f"it unpacks to more than {MAX_MAT_BYTES} bytes")
                elements = self._elements(memoryview(content))
            for inner, inside in elements:
                if inner == _MATRIX:
                    name, value = self._matrix(inside, 0)
                    found[name] = value
        return found

    def _elements(self, data: memoryview) -> Iterator[tuple[int, memoryview]]:
        """Yield type and data of elements that follow each other."""
        place = 0
        while place + 8 <= len(data):
            kind, size = struct.unpack_from(f"{self._order}II", data, place)
            start, end = place + 8, place + 8 + size
            if kind >> 16:  # a small element: type and size in four bytes, data in the other four
                kind, size = kind & 0xFFFF, kind >> 16
                start, end = place + 4, place + 8
                if size > 4:
                    raise ValueError("a small element has more than four bytes")
            if start + size > len(data):
                raise ValueError("an element is longer than the file")
            yield kind, data[start : start + size]
            place = end if kind == _COMPRESSED else -(-end // 8) * 8

    def _matrix(self, data: memoryview, depth: int) -> tuple[str, Any]:
        """Return name and value of a matrix. Raises ValueError."""
        self._left -= 1
        if self._left < 0 or depth > MAX_MAT_DEPTH:
            raise ValueError(
                f"it has more than {MAX_MAT_ELEMENTS} elements, or more than {MAX_MAT_DEPTH} in each other"
            )
        if not data:
            return "", np.empty((0, 0))
        parts = list(self._elements(data))
        if len(parts) < 3 or len(parts[0][1]) != 8 or len(parts[1][1]) % 4:
            raise ValueError("an array has no flags, dimensions and name")
        kind = struct.unpack(f"{self._order}II", parts[0][1])[0] & 0xFF
        shape = struct.unpack(f"{self._order}{len(parts[1][1]) // 4}i", parts[1][1])
        count = 1
        for length in shape:
            count *= length
            if length < 0 or count > len(data):
                raise ValueError(f"an array of dimensions {shape[:4]} does not fit in its {len(data)} bytes")
        values = parts[3:]
        if kind in (_CELL, _STRUCT):
            value = self._cells(kind, values, shape, count, depth)
        elif kind == _CHAR:
            value = self._texts(values, shape, count)
        elif 6 <= kind <= 15:
            value = self._numbers(values, shape, count)
        else:
            raise ValueError("it holds objects, functions or sparse arrays")
        return bytes(parts[2][1]).decode("latin-1"), value

    def _cells(
        self, kind: int, values: list[tuple[int, memoryview]], shape: tuple[int, ...], count: int, depth: int
    ) -> np.ndarray:
        fields = 1
        if kind == _STRUCT:
            if len(values) < 2 or len(values[0][1]) != 4:
                raise ValueError("a structure has no names of fields")
            width = struct.unpack(f"{self._order}i", values[0][1])[0]
            fields, values = len(values[1][1]) // max(1, width), values[2:]
        if len(values) != count * fields or any(inner != _MATRIX for inner, _ in values):
            raise ValueError("cells or a structure have not the entries that they should")
        entries = [self._matrix(inside, depth + 1)[1] for _, inside in values]
        result = np.empty(count, object)
        for index in range(count):
            own = tuple(entries[index * fields : (index + 1) * fields])
            result[index] = own if kind == _STRUCT else own[0]
        return result.reshape(shape, order="F")

    def _texts(self, values: list[tuple[int, memoryview]], shape: tuple[int, ...], count: int) -> Any:
        """Return a text, or of several rows an array of texts."""
        if len(values) != 1 or values[0][0] not in _TEXTS or len(shape) != 2:
            raise ValueError("a text is not as it should be")
        encoding = _TEXTS[values[0][0]]
        if encoding in ("utf-16", "utf-32"):
            encoding += "-le" if self._order == "<" else "-be"
        text = bytes(values[0][1]).decode(encoding)
        if len(text) != count:
            raise ValueError(f"a text of {count} characters has {len(text)}")
        rows = ["".join(text[row :: shape[0]]) for row in range(shape[0])]
        return rows[0] if len(rows) == 1 else np.array(rows, object)

    def _numbers(self, values: list[tuple[int, memoryview]], shape: tuple[int, ...], count: int) -> np.ndarray:
        if len(values) < 1 or values[0][0] not in _NUMBERS:
            raise ValueError("an array of numbers is not as it should be")
        numbers = np.frombuffer(values[0][1], self._order + _NUMBERS[values[0][0]])
        if len(numbers) != count:
            raise ValueError(f"an array of {count} numbers has {len(numbers)}")
        return numbers.reshape(shape, order="F")


def _pairs(variables: dict[str, Any]) -> list[tuple[str, str, bool]]:
    """Collect the pairs of all splits. Raises ValueError if there are none."""
    found = variables.get("splits", next(iter(variables.values())) if len(variables) == 1 else None)
    if found is None:
        raise ValueError("it holds no variable splits")
    pairs: list[tuple[str, str, bool]] = []
    for number, split in enumerate([found] if _is_rows(found) else _parts(found), 1):
        pairs += _split_pairs(split, number)
    if not pairs:
        raise ValueError("it holds no pair")
    return pairs


def _parts(value: Any) -> list[Any]:
    """Return the fields of a structure, or the entries of cells."""
    if isinstance(value, tuple):
        return list(value)
    return list(value.ravel()) if isinstance(value, np.ndarray) and value.dtype == object else []


def _is_rows(value: Any) -> bool:
    """Return whether cells are rows of name, name, label."""
    is_table = isinstance(value, np.ndarray) and value.ndim == 2 and value.shape[1] == 3 and len(value) > 0
    return is_table and isinstance(_single(value[0, 0]), str)


def _single(value: Any) -> Any:
    """Return what arrays of one entry hold."""
    while isinstance(value, np.ndarray) and value.size == 1:
        value = value.ravel()[0]
    return value


def _split_pairs(split: Any, number: int) -> list[tuple[str, str, bool]]:
    """Return the pairs of a split: two columns of names, and labels, wherever they are in it."""
    split = _single(split)
    columns: list[list[Any]] = []
    labels: list[Any] | None = None
    if _is_rows(split):
        *columns, labels = ([_single(entry) for entry in column] for column in split.T)
    else:
        for part in _parts(split):
            names = _names(part)
            columns += names
            if not names and isinstance(part, np.ndarray) and part.dtype != object:
                labels = part.ravel().tolist()
    if len(columns) != 2 or labels is None or not len(columns[0]) == len(columns[1]) == len(labels):
        raise ValueError(f"split {number} is not two lists of names and a list of labels, 1 or -1")
    if not all(isinstance(name, str) and name.strip() for column in columns for name in column):
        raise ValueError(f"a name of split {number} is no text")
    if any(label not in _LABELS for label in labels):
        raise ValueError(f"a label of split {number} is neither 1 nor -1")
    return [(one.strip(), other.strip(), label == 1) for one, other, label in zip(*columns, labels)]


def _names(value: Any) -> list[list[str]]:
    """Return the columns of an array of texts, or one text as a column; none where it is something else."""
    if isinstance(value, str):
        return [[value]]
    if not isinstance(value, np.ndarray) or value.dtype != object or not value.size:
        return []
    table = value if value.ndim == 2 and value.shape[1] == 2 else value.reshape(-1, 1)
    texts = [[_single(entry) for entry in column] for column in table.T]
    return texts if all(isinstance(text, str) for column in texts for text in column) else []
