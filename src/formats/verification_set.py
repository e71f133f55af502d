"""NAME.bin, a verification set: a pickle of (list of 2n encoded images, list of n booleans).

A pickle can call anything that it names, so it is read with an allow-list. Even numpy's functions have stand-ins there,
because numpy's own trust the sizes and types that a file claims.
"""

from __future__ import annotations

import os
import pickle
from typing import Any, Callable, Iterable, Sequence

import numpy as np

from insightface_mx.base.errors import UserError, shorten
from insightface_mx.base.limits import PAIRED_IMAGE_BYTES, PAIRED_IMAGES
from insightface_mx.files import safe_pickle
from insightface_mx.files.atomic import atomic_path
from insightface_mx.files.regular_file import open_regular
from insightface_mx.files.wrong_file import refuse_wrong_file

_NUMBERS = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")  # types of numpy


def read_bin(path: str) -> tuple[list[bytes], list[bool]]:
    """Read a verification set, of Python 2 or 3, numpy 1 or 2, and any pickle protocol.

    Images are bytes, bytearrays, or uint8 arrays with one side longer than 1, in a list, tuple or object array. Flags
    are booleans or the numbers 0 and 1, of Python or numpy, in the same or in an array of numbers.

    Returns:
        2n encoded images, and n flags: whether images 2i and 2i + 1 show the same person.

    Raises:
        UserError: The file cannot be opened, is damaged, or holds or names anything else; nothing was run.
    """
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            return _images_and_flags(safe_pickle.load(file, _allowed(size), encoding="bytes"), size)
    except OSError as error:
        raise UserError(f"cannot open {path}: {error.strerror}") from error
    except safe_pickle.DAMAGE as error:
        refuse_wrong_file(path)
        reason = error if isinstance(error, pickle.UnpicklingError) else "it is cut short or no pickle"
        raise UserError(f"{path} is damaged or is no verification set: {reason}. Get or build it again") from error


def write_bin(path: str, images: Iterable[bytes | np.ndarray], issame: Iterable[bool]) -> None:
    """Write a verification set; equal input gives equal files.

    The file opens with pickle.load in Python 2 and 3, with encoding='bytes' or without: protocol 2 is the newest that
    Python 2 reads, and Python 3 writes bytes in it in a way that comes back as byte strings there.

    Args:
        path: The file.
        images: 2n encoded images, bytes or uint8 arrays.
        issame: n flags.

    Raises:
        UserError: The numbers of images and flags do not fit, or the file cannot be written.
    """
    # Pickle writes an object once, however often it occurs. One object for equal images makes that depend on values.
    first_of: dict[bytes, bytes] = {}
    encoded = [first_of.setdefault(image, image) for image in map(bytes, images)]
    flags = [bool(flag) for flag in issame]
    if not flags or len(encoded) != 2 * len(flags):
        raise UserError(f"cannot write {path}: {len(encoded)} images for {len(flags)} pairs")
    try:
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            pickle.dump((encoded, flags), file, protocol=2)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def _images_and_flags(content: object, size: int) -> tuple[list[bytes], list[bool]]:
    """Check what a pickle of `size` bytes holds. Raises UnpicklingError if it is no verification set."""
    pair = _values(content)
    if len(pair) != 2:
        raise pickle.UnpicklingError("it does not hold two lists, images and flags")
    images, flags = map(_values, pair)
    if not flags or len(images) != 2 * len(flags):
        raise pickle.UnpicklingError(f"it holds {len(images)} images for {len(flags)} pairs")
    if len(images) > max(PAIRED_IMAGES, size // PAIRED_IMAGE_BYTES):
        raise pickle.UnpicklingError(f"it names {len(images)} images, more than its {size} bytes can hold")
    return [_image(i, entry) for i, entry in enumerate(images)], [_flag(i, entry) for i, entry in enumerate(flags)]


def _values(entries: object) -> Sequence[object]:
    """Return the entries of a list, tuple or array."""
    if isinstance(entries, _Array):
        return entries.values()
    if not isinstance(entries, (list, tuple)):
        raise pickle.UnpicklingError("it does not hold two lists, images and flags")
    return entries


def _image(index: int, entry: object) -> bytes:
    if isinstance(entry, _Array):
        return entry.vector()
    if not isinstance(entry, bytes):
        raise pickle.UnpicklingError(f"image {index} is of type {type(entry).__name__}, not bytes")
    return entry


def _flag(index: int, entry: object) -> bool:
    if not isinstance(entry, (int, float)):
        raise pickle.UnpicklingError(f"flag {index} is of type {type(entry).__name__}, not a boolean")
    if entry not in (0, 1):
        raise pickle.UnpicklingError(f"flag {index} is {shorten(entry)}, neither 1 (the same identity) nor 0")
    return bool(entry)


class _DType:
    """Stands in for numpy.dtype."""

    __slots__ = ("code", "order")

    def __init__(self, code: object, *_: object) -> None:
        self.code, self.order = _text(code), "="

    def __setstate__(self, state: tuple) -> None:
        """Take the byte order and ignore fields, which types of one number do not have."""
        self.order = _text(state[1])

    def numbers(self, content: object) -> list[float]:
        """Return the booleans or numbers in the bytes of an array."""
        if self.code not in _NUMBERS or self.order not in ("<", ">", "|", "=") or not isinstance(content, bytes):
            raise pickle.UnpicklingError(f"it holds numpy data of type {shorten(self.code)}, not numbers")
        return np.frombuffer(content, self.order + self.code).tolist()


class _Array:
    """Stands in for numpy.ndarray: empty until the pickle sets its state."""

    _shape: object = (0,)
    _dtype: object = None
    _content: object = b""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: tuple) -> None:
        _, self._shape, self._dtype, _, self._content = state

    def vector(self) -> bytes:
        """Return the bytes of an image: an array of uint8 with one side longer than 1."""
        code, shape, content = self._type().code, self._shape, self._content
        if code != "u1":
            raise pickle.UnpicklingError(f"it holds numpy data of type {shorten(code)}, not u1")
        if isinstance(content, bytes) and shape in ((len(content),), (len(content), 1), (1, len(content))):
            return content
        raise pickle.UnpicklingError("it holds an array that is not one row or column of as many bytes as it says")

    def values(self) -> list[Any]:
        """Return the entries: objects or numbers."""
        return self._content if isinstance(self._content, list) else self._type().numbers(self._content)

    def _type(self) -> _DType:
        if not isinstance(self._dtype, _DType):
            raise pickle.UnpicklingError("it holds a numpy array without a type")
        return self._dtype


def _from_buffer(content: object, dtype: object, shape: object, *_: object) -> _Array:
    """Stand in for the function by which numpy writes arrays in protocol 5."""
    array = _Array()
    array.__setstate__((1, shape, dtype, False, content))
    return array


def _scalar(dtype: _DType, content: object) -> float:
    """Stand in for the function by which numpy writes single values."""
    (value,) = dtype.numbers(content)
    return value


class _Encode:
    """Stands in for codecs.encode, by which Python 3 writes bytes in protocols 0 to 2, and for bytearray.

    A pickle can name one text many times; all results together have no more bytes than the file.
    """

    def __init__(self, size: int) -> None:
        self._left = size

    def __call__(self, text: str | bytes = b"", encoding: object = "latin1") -> bytes:
        if isinstance(text, bytes):
            return text
        name = _text(encoding)
        if name not in ("latin1", "latin-1"):
            raise pickle.UnpicklingError(f"it holds text in the encoding '{shorten(name)}', not bytes")
        self._left -= len(text)
        if self._left < 0:
            raise pickle.UnpicklingError("it makes more bytes than it has")
        return text.encode("latin1")


def _text(name: object) -> str:
    if not isinstance(name, (str, bytes)):
        raise pickle.UnpicklingError(f"it holds a name of type {type(name).__name__}")
    return name if isinstance(name, str) else name.decode("latin1")


def _allowed(size: int) -> dict[str, Callable[..., object]]:
    """Return what a pickle of `size` bytes may name, and what stands in for it."""
    encode = _Encode(size)
    return {
        "_codecs.encode": encode,
        "builtins.bytearray": encode,
        "__builtin__.bytearray": encode,
        "numpy.core.multiarray._reconstruct": _Array,
        "numpy.core.multiarray.scalar": _scalar,
        "numpy.core.numeric._frombuffer": _from_buffer,
        "numpy.dtype": _DType,
        "numpy.ndarray": _Array,
    }
