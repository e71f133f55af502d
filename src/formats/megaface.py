"""Read and write MegaFace's feature files: one embedding each, as an OpenCV matrix of one column.

Four little-endian int32: rows, columns (1), bytes of a number (4) and OpenCV's type (5, CV_32FC1); then the numbers,
float32. The file of the image PATH has the name PATH_ALGORITHM.bin.
"""

from __future__ import annotations

import os
import re
import struct

import numpy as np

from insightface_mx.base.errors import UserError, shorten
from insightface_mx.base.limits import MAX_FEATURE
from insightface_mx.files.atomic import atomic_path
from insightface_mx.files.regular_file import open_regular
from insightface_mx.files.wrong_file import refuse_wrong_file

ENDING = ".bin"
_HEADER = struct.Struct("<4i")
_KIND = (1, 4, 5)  # columns, bytes of a number, CV_32FC1
_NAME = re.compile(r"(?P<image>.+?\.(?:jpe?g|png|bmp|gif|tiff?|webp))_[^/]*\.bin|(?P<rest>.+)_[^/_]*\.bin", re.I | re.S)


def read_feature(path: str) -> np.ndarray:
    """Read a feature file.

    Returns:
        (d,) float32.

    Raises:
        UserError: It cannot be opened, is no such file, or holds a number that is not finite.
    """
    try:
        with open_regular(path) as file:
            content = file.read(_HEADER.size + 4 * MAX_FEATURE + 1)
    except OSError as error:
        raise UserError(f"cannot open {path}: {error.strerror}") from error
    if len(content) < _HEADER.size:
        refuse_wrong_file(path)
        raise UserError(f"{path} is no feature file of MegaFace: it has {len(content)} bytes, fewer than the header")
    rows, *kind = _HEADER.unpack_from(content)
    if tuple(kind) != _KIND or not 0 < rows <= MAX_FEATURE:
        refuse_wrong_file(path)
        raise UserError(
            f"{path} is no feature file of MegaFace: its header is {rows}, {', '.join(map(str, kind))}, not the length "
            f"(1 to {MAX_FEATURE}), 1, 4, 5"
        )
    if len(content) != _HEADER.size + 4 * rows:
        more = "or more " if len(content) > 4 * MAX_FEATURE else ""
        raise UserError(f"{path} has {len(content)} bytes {more}where its header says {_HEADER.size + 4 * rows}")
    feature = np.frombuffer(content, "<f4", offset=_HEADER.size).astype(np.float32)
    if not np.isfinite(feature).all():
        raise UserError(f"{path} holds a number that is not finite")
    return feature


def write_feature(path: str, feature: np.ndarray) -> None:
    """Write a feature file, (d,) numbers, completely or not at all; its folder is made where it does not exist."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with atomic_path(path, durable=False) as temporary, open(temporary, "wb") as file:
        file.write(_HEADER.pack(len(feature), *_KIND) + np.asarray(feature, "<f4").tobytes())


def image_name(name: str) -> str:
    """Return the name of the image whose feature file has this name: without _ALGORITHM.bin.

    Raises:
        UserError: It is none of a feature file.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise UserError(f"{shorten(name)} is not called IMAGE_ALGORITHM.bin, as feature files of MegaFace are")
    return found.group("image") or found.group("rest")
