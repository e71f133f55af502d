"""A verification set as pixels."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from insightface_mx.base.compat import cpu_count
from insightface_mx.base.errors import UserError
from insightface_mx.formats.verification_set import read_bin
from insightface_mx.photos.decode import decode


def read_pairs(path, image_size):
    """Read and decode a verification set: uint8 images (2n, 3, height, width), RGB, and a list of n booleans.

    An image of another size than `image_size` (height, width) is scaled on its short side and cropped around its
    centre. Raises UserError naming the image that cannot be decoded.
    """
    encoded, issame = read_bin(path)
    decoded = np.empty((len(encoded), 3, *image_size), np.uint8)

    def fill(number):
        image = decode(encoded[number], image_size)
        if image is None:
            raise UserError(f"{path}: image {number} (of pair {number // 2}) cannot be decoded; build the set again")
        decoded[number] = image.transpose(2, 0, 1)

    with ThreadPoolExecutor(cpu_count()) as pool:
        list(pool.map(fill, range(len(encoded))))
    return decoded, issame
