"""NAME.bin, a verification set: a pickle of (list of 2n encoded images, list of n booleans).

A pickle can call anything that it names, so it is read with an allow-list. Even numpy's functions have stand-ins there,
because numpy's own trust the sizes and types that a file claims.
"""

from __future__ import annotations

import pickle
from typing import Callable, Iterable

import numpy as np

from insightface_mx.base.errors import UserError
from insightface_mx.formats import safe_pickle
from insightface_mx.formats.atomic import atomic_path
from insightface_mx.formats.wrong_file import refuse_wrong_file


def read_bin(path: str) -> tuple[list[bytes], list[bool]]:
    """Read a verification set, of Python 2 or 3 and pickle protocols 0 to 4, with images as bytes or 1-d uint8 arrays.

    Returns:
        2n encoded images, and n flags: whether images 2i and 2i + 1 show the same person.

    Raises:
        UserError: The file cannot be opened, is damaged, or holds or names anything else; nothing was run.
    """
    try:
        with open(path, "rb") as file:
            return _images_and_flags(safe_pickle.load(file, _ALLOWED, encoding="bytes"))
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


def _images_and_flags(content: object) -> tuple[list[bytes], list[bool]]:
    """Check what a pickle holds. Raises UnpicklingError if it is no verification set."""
    if not isinstance(content, (list, tuple)) or len(content) != 2:
        raise pickle.UnpicklingError("it does not hold two lists, images and flags")
    images, flags = content
    if not isinstance(images, (list, tuple)) or not isinstance(flags, (list, tuple)):
        raise pickle.UnpicklingError("it does not hold two lists, images and flags")
    if not flags or len(images) != 2 * len(flags):
        raise pickle.UnpicklingError(f"it holds {len(images)} images for {len(flags)} pairs")
    return [_image(i, entry) for i, entry in enumerate(images)], [_flag(i, entry) for i, entry in enumerate(flags)]


def _image(index: int, entry: object) -> bytes:
    if isinstance(entry, _Array):
        return entry.content
    if not isinstance(entry, bytes):
        raise pickle.UnpicklingError(f"image {index} is of type {type(entry).__name__}, not bytes")
    return entry


def _flag(index: int, entry: object) -> bool:
    if not isinstance(entry, int) or entry not in (0, 1):
        raise pickle.UnpicklingError(f"flag {index} is of type {type(entry).__name__}, not a boolean")
    return bool(entry)


class _DType:
    """Stands in for numpy.dtype."""

    def __init__(self, code: str | bytes, *_: object) -> None:
        self.code = code if isinstance(code, str) else code.decode("latin1")

    def __setstate__(self, state: object) -> None:
        """Ignore byte order and fields, which types of one byte do not have."""

    def require(self, code: str) -> None:
        if self.code != code:
            raise pickle.UnpicklingError(f"it holds numpy data of type {self.code}, not {code}")


class _Array:
    """Stands in for numpy.ndarray: empty until the pickle sets its state."""

    content = b""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, _, content = state
        dtype.require("u1")
        if not isinstance(content, bytes) or shape != (len(content),):
            raise pickle.UnpicklingError(f"it holds an array of shape {shape}, not a 1-d one of the length of its data")
        self.content = content


def _numpy_bool(dtype: _DType, content: bytes) -> bool:
    dtype.require("b1")
    return content != b"\0"


def _encode(text: str, encoding: str | bytes) -> bytes:
    """Stand in for codecs.encode, by which Python 3 writes bytes in protocols 0 to 2."""
    if encoding not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError(f"it holds text in the encoding {encoding!r}, not bytes")
    return text.encode("latin1")


_ALLOWED: dict[str, Callable[..., object]] = {
    "_codecs.encode": _encode,
    "numpy.core.multiarray._reconstruct": _Array,
    "numpy.core.multiarray.scalar": _numpy_bool,
    "numpy.dtype": _DType,
    "numpy.ndarray": _Array,
}
