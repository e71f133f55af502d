"""Augment face images: arrays of height x width x 3, RGB, values 0..255.

The random parameters of a whole batch are sampled first (`sample`) and applied later (`Augmenter`), so the result
depends on the seed alone, never on which worker decodes which image.
"""

from __future__ import annotations

from typing import NamedTuple, Sequence

import cv2
import numpy as np

LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
JITTER = 0.125  # brightness, contrast and saturation change by up to this fraction
QUALITIES = (2, 20)  # JPEG re-compression, lowest and highest quality
FILL = 128  # value of a cut-off square

# 3x4 matrices of affine maps of one pixel's colours: to the same colours, to its luma three times, to a constant
_SAME, _GREY, _CONSTANT = np.eye(3, 4), np.zeros((3, 4)), np.zeros((3, 4))
_GREY[:, :3], _CONSTANT[:, 3] = LUMA, 1


class AugmentParams(NamedTuple):
    """The random parameters of one image.

    Attributes:
        mirror: Whether to mirror it.
        cut: Whether to cut off a square.
        cut_center: Row and column of the square's centre.
        quality: JPEG quality of the re-compression; 0: none.
        factors: Of brightness, contrast and saturation.
    """

    mirror: bool
    cut: bool
    cut_center: np.ndarray
    quality: int
    factors: np.ndarray


def sample(rng: np.random.Generator, count: int, image_size: tuple[int, int]) -> list[AugmentParams]:
    """Sample the parameters of `count` images.

    All of them are sampled whether or not they are used, so that switching on one augmentation changes no other.

    Args:
        rng: The source of all random values.
        count: Number of images.
        image_size: Height and width.
    """
    height, width = image_size
    mirror, cut, compress = rng.random((3, count)) < 0.5
    centers = rng.integers((height, width), size=(count, 2))
    qualities = np.where(compress, rng.integers(QUALITIES[0], QUALITIES[1] + 1, size=count), 0)
    factors = rng.uniform(1 - JITTER, 1 + JITTER, (count, 3))
    return [AugmentParams(*values) for values in zip(mirror, cut, centers, qualities, factors)]


class Augmenter:
    """Augments images of one size; it uses its memory again for every image, so each thread needs its own.

    Args:
        image_size: Height and width.
        rand_mirror: Mirror with probability 1/2.
        cutoff: With probability 1/2 set a square of this many pixels a side, at a random centre, to 128; 0: never.
        color: 1: change brightness, contrast and saturation by up to 0.125; 2: before that, with probability 1/2,
            re-compress as JPEG at quality 2..20; 0: neither.
    """

    def __init__(self, image_size: tuple[int, int], rand_mirror: bool = False, cutoff: int = 0, color: int = 0) -> None:
        """Allocate the memory."""
        self._shape = (*image_size, 3)
        self._rand_mirror, self._cutoff, self._color = rand_mirror, cutoff, color
        self._mirrored = np.empty(self._shape, np.uint8)
        self._planes = np.empty((3, *image_size), np.uint8)
        self._split = list(self._planes)
        self._floats, self._jittered = np.empty((2, *self._shape), np.float32)

    def write(self, image: np.ndarray, params: AugmentParams | None, out: np.ndarray) -> None:
        """Augment an image and write it into `out`.

        Args:
            image: Height x width x 3, any type.
            params: Its random parameters; None: leave it as it is.
            out: 3 x height x width, float32.

        Raises:
            ValueError: The image has another size.
        """
        if image.shape != self._shape:
            raise ValueError(f"an image of {image.shape} where {self._shape} is expected: see aug_list")
        if params:
            image = self._change(image, params)
        if image.dtype == np.uint8:  # half the time of one transposed assignment
            cv2.split(image, self._split)
            out[:] = self._planes
        else:
            cv2.split(np.asarray(image, np.float32), list(out))
        if params and params.cut and self._cutoff:
            cut_off(out, params.cut_center, self._cutoff)

    def _change(self, image: np.ndarray, params: AugmentParams) -> np.ndarray:
        if self._rand_mirror and params.mirror:
            image = cv2.flip(image, 1, self._mirrored)
        if self._color > 1 and params.quality:
            image = compress(_as_bytes(image), params.quality)
        if self._color > 0:
            self._floats[:] = image
            image = cv2.transform(self._floats, jitter(cv2.mean(self._floats)[:3], *params.factors), self._jittered)
        return image


def _as_bytes(image: np.ndarray) -> np.ndarray:
    """Return an image as uint8; a function of aug_list may have changed its type."""
    return image if image.dtype == np.uint8 else np.clip(np.rint(image), 0, 255).astype(np.uint8)


def compress(image: np.ndarray, quality: int) -> np.ndarray:
    """Compress a uint8 image as JPEG at `quality` (0..100), and return the decoded result."""
    encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, int(quality)])[1]
    return cv2.cvtColor(cv2.imdecode(encoded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def jitter(mean: Sequence[float], brightness: float, contrast: float, saturation: float) -> np.ndarray:
    """Return the 3x4 matrix that changes brightness, contrast and saturation, for cv2.transform.

    Brightness b scales the colours, contrast c their distance to the image's mean luma, saturation s their distance to
    the pixel's own luma: b (c (s x + (1 - s) luma(x)) + (1 - c) luma(mean)). Any order of the three gives the same.

    Args:
        mean: Mean colour of the image.
        brightness: Factor, 1 for no change.
        contrast: Factor, 1 for no change.
        saturation: Factor, 1 for no change.
    """
    scale = brightness * contrast
    offset = brightness * (1 - contrast) * (LUMA @ mean)
    return scale * saturation * _SAME + scale * (1 - saturation) * _GREY + offset * _CONSTANT


def cut_off(planes: np.ndarray, center: np.ndarray, size: int) -> None:
    """Set a square to 128, in place.

    Args:
        planes: The image, 3 x height x width.
        center: Row and column of the square's centre.
        size: Pixels a side; the square is clipped to the image.
    """
    (top, bottom), (left, right) = ((max(0, middle - size // 2), middle + size // 2) for middle in center)
    planes[:, top:bottom, left:right] = FILL
