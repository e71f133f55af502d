"""Augmentation of face images: arrays of height x width x 3, RGB, values 0..255.

What happens to an image is drawn first (`draw`, for a whole batch at once) and applied later (`Augmenter`), so that the
result depends on the seed alone, never on which worker decodes which image.
"""

from collections import namedtuple

import cv2
import numpy as np

LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
JITTER = 0.125  # brightness, contrast and saturation change by up to this fraction
QUALITIES = (2, 20)  # JPEG re-compression, lowest and highest quality
FILL = 128  # value of a cut-off square

# 3x4 matrices of an affine map of one pixel's colours: the same, three times the luma, three times a constant
_SAME, _GREY, _CONSTANT = np.eye(3, 4), np.zeros((3, 4)), np.zeros((3, 4))
_GREY[:, :3], _CONSTANT[:, 3] = LUMA, 1

Draw = namedtuple("Draw", "mirror cut cut_center quality factors")


def draw(rng, count, image_size):
    """Random numbers for `count` images of `image_size` (height, width): a list of `count` Draws.

    The same numbers are drawn whichever augmentations are on, so that switching one on changes no other.
    """
    height, width = image_size
    mirror, cut, compress = rng.random((3, count)) < 0.5
    centers = rng.integers((height, width), size=(count, 2))
    qualities = np.where(compress, rng.integers(QUALITIES[0], QUALITIES[1] + 1, size=count), 0)
    factors = rng.uniform(1 - JITTER, 1 + JITTER, (count, 3))
    return [Draw(*values) for values in zip(mirror, cut, centers, qualities, factors)]


class Augmenter:
    """Augments images of one size, one after the other, in memory that it uses again: one a thread.

    rand_mirror: mirror with probability 1/2. color 1: jitter of brightness, contrast and saturation by 0.125; color 2:
    before it, with probability 1/2, JPEG re-compression at quality 2..20. cutoff: with probability 1/2, set a square of
    this many pixels a side at a random centre to 128.
    """

    def __init__(self, image_size, rand_mirror=False, cutoff=0, color=0):
        self._shape = (*image_size, 3)
        self._rand_mirror, self._cutoff, self._color = rand_mirror, cutoff, color
        self._mirrored = np.empty(self._shape, np.uint8)
        self._planes = np.empty((3, *image_size), np.uint8)
        self._split = list(self._planes)
        self._floats, self._jittered = np.empty((2, *self._shape), np.float32)

    def write(self, image, drawn, out):
        """Write an image, augmented as drawn (None: as it is), into `out`, 3 x height x width, float32."""
        if image.shape != self._shape:
            raise ValueError(f"an image of {image.shape} where {self._shape} is expected: see aug_list")
        if drawn:
            image = self._change(image, drawn)
        if image.dtype == np.uint8:  # half the time of one transposed assignment
            cv2.split(image, self._split)
            out[:] = self._planes
        else:
            cv2.split(np.asarray(image, np.float32), list(out))
        if drawn and drawn.cut and self._cutoff:
            cut_off(out, drawn.cut_center, self._cutoff)

    def _change(self, image, drawn):
        if self._rand_mirror and drawn.mirror:
            image = cv2.flip(image, 1, self._mirrored)
        if self._color > 1 and drawn.quality:
            image = compress(_as_bytes(image), drawn.quality)
        if self._color > 0:
            self._floats[:] = image
            image = cv2.transform(self._floats, jitter(cv2.mean(self._floats)[:3], *drawn.factors), self._jittered)
        return image


def _as_bytes(image):
    """An image, of whatever type a function of aug_list has made it, as uint8."""
    return image if image.dtype == np.uint8 else np.clip(np.rint(image), 0, 255).astype(np.uint8)


def compress(image, quality):
    """The uint8 image after JPEG compression at `quality` (0..100)."""
    encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, int(quality)])[1]
    return cv2.cvtColor(cv2.imdecode(encoded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def jitter(mean, brightness, contrast, saturation):
    """The 3x4 matrix that changes brightness, contrast and saturation of an image whose mean colour is `mean`.

    Brightness scales the colours, contrast their distance to the mean luma, saturation that to the pixel's own luma:
    b (c (s x + (1 - s) luma(x)) + (1 - c) luma(mean)), in whichever order the three are taken.
    """
    scale = brightness * contrast
    offset = brightness * (1 - contrast) * (LUMA @ mean)
    return scale * saturation * _SAME + scale * (1 - saturation) * _GREY + offset * _CONSTANT


def cut_off(planes, center, size):
    """Set a square of `size` pixels a side around `center` (row, column), clipped to the image, to 128 in place."""
    (top, bottom), (left, right) = ((max(0, middle - size // 2), middle + size // 2) for middle in center)
    planes[:, top:bottom, left:right] = FILL
