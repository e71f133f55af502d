"""Find what occurs several times, by its content."""

from __future__ import annotations

import hashlib
from typing import Iterable

import numpy as np


def first_places(contents: Iterable[bytes | np.ndarray]) -> np.ndarray:
    """Return for each of n contents the index of the first one that is equal to it, (n,) int64."""
    first: dict[bytes, int] = {}  # digest -> index
    places = []
    for index, content in enumerate(contents):
        data = content if isinstance(content, bytes) else np.ascontiguousarray(content).data
        places.append(first.setdefault(hashlib.blake2b(data, digest_size=16).digest(), index))
    return np.array(places, np.int64)
