"""A verification set as pixels."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from insightface_mx.base.machine import cpu_count
from insightface_mx.cli.types import Size
from insightface_mx.formats.verification_set import read_bin
from insightface_mx.photos.decode import fit, read_record


def read_pairs(path: str, image_size: Size) -> tuple[np.ndarray, list[bool]]:
    """Read and decode a verification set.

    Args:
        path: The set, NAME.bin.
        image_size: Height and width; an image of another size is fitted, see `decode.fit`.

    Returns:
        Images, (2n, 3, height, width) uint8 RGB, pair i being 2i and 2i + 1, and for each pair whether both images show
        the same identity.

    Raises:
        UserError: The set cannot be read, or an image of it cannot be decoded; the message names the image.
    """
    encoded, issame = read_bin(path)
    decoded = np.empty((len(encoded), 3, *image_size), np.uint8)

    def fill(index: int) -> None:
        image = read_record(encoded[index], f"{path}: image {index} (of pair {index // 2})")
        decoded[index] = fit(image, image_size).transpose(2, 0, 1)

    with ThreadPoolExecutor(cpu_count()) as pool:
        list(pool.map(fill, range(len(encoded))))
    return decoded, issame
