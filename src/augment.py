"""Augmentation of one face image: an array of height x width x 3, RGB, values 0..255.

What happens to an image is drawn first (`draw`, for a whole batch at once) and applied later (`apply`), so that the
result depends on the seed alone, never on which worker decodes which image.
"""

from collections import namedtuple

import cv2
import numpy as np

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
JITTER = 0.125  # brightness, contrast and saturation change by up to this fraction
QUALITIES = (2, 20)  # JPEG re-compression, lowest and highest quality
FILL = 128  # value of a cut-off square

Draw = namedtuple("Draw", "mirror cut cut_center quality factors order")


def draw(rng, count, image_size):
    """Random numbers for `count` images of `image_size` (height, width): a list of `count` Draws.

    The same numbers are drawn whichever augmentations are on, so that switching one on changes no other.
    """
    height, width = image_size
    mirror, cut, compress = rng.random((3, count)) < 0.5
    centers = rng.integers((height, width), size=(count, 2))
    qualities = np.where(compress, rng.integers(QUALITIES[0], QUALITIES[1] + 1, size=count), 0)
    factors = rng.uniform(1 - JITTER, 1 + JITTER, (count, 3)).astype(np.float32)
    orders = rng.permuted(np.tile(np.arange(3), (count, 1)), axis=1)
    return [Draw(*values) for values in zip(mirror, cut, centers, qualities, factors, orders)]


def apply(image, drawn, rand_mirror=False, cutoff=0, color=0):
    """Augment one image as drawn.

    rand_mirror: mirror with probability 1/2. color 1: brightness, contrast and saturation jitter of 0.125 in random
    order, a float32 image; color 2: before it, with probability 1/2, JPEG re-compression at quality 2..20.
    cutoff: with probability 1/2, set a square of this many pixels a side at a random centre to 128.
    """
    if rand_mirror and drawn.mirror:
        image = cv2.flip(image, 1)
    if color > 1 and drawn.quality:
        image = compress(image, drawn.quality)
    if color > 0:
        image = image.astype(np.float32)
        for step in drawn.order:
            image = COLOR_STEPS[step](image, drawn.factors[step])
    if cutoff and drawn.cut:
        image = cut_off(image, drawn.cut_center, cutoff)
    return image


def compress(image, quality):
    """The image after JPEG compression at `quality` (0..100)."""
    _, encoded = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
    return cv2.imdecode(encoded, cv2.IMREAD_COLOR)[:, :, ::-1]


def brightness(image, factor):
    return image * factor


def contrast(image, factor):
    """Scale the distance to the image's mean luma."""
    return image * factor + (1 - factor) * (image @ LUMA).mean()


def saturation(image, factor):
    """Scale the distance to each pixel's luma."""
    return image * factor + (1 - factor) * (image @ LUMA)[..., np.newaxis]


COLOR_STEPS = (brightness, contrast, saturation)


def cut_off(image, center, size):
    """A copy with a square of `size` pixels a side around `center` (row, column), clipped to the image, set to 128."""
    image = image.copy()
    top, left = (max(0, middle - size // 2) for middle in center)
    image[top : center[0] + size // 2, left : center[1] + size // 2] = FILL
    return image
