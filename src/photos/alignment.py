"""Align faces: bring them to the place, size and format of the images that the networks were trained on."""

from __future__ import annotations

import argparse
from typing import Sequence, Tuple, Union

import cv2
import numpy as np

from insightface_mx.cli import types
from insightface_mx.cli.types import Size
from insightface_mx.photos.decode import fit, to_bgr

Box = Tuple[int, int, int, int]  # x1, y1, x2, y2 in whole pixels, the last two exclusive
Points = Union[np.ndarray, Sequence[Sequence[float]]]  # (n, 2), x and y in pixels

# Left eye, right eye, nose, left and right corner of the mouth: x and y in an aligned image of 112x96 pixels.
REFERENCE = np.array(
    [(30.2946, 51.6963), (65.5318, 51.5014), (48.0252, 71.7366), (33.5493, 92.3655), (62.7299, 92.2041)]
)

FULL, NARROW = (112, 112), (112, 96)  # height and width of an aligned face
MAX_SIDE = 32766  # of cv2.warpAffine
MAX_PLACE = 1e6  # pixels from the image's corner to a landmark, which may be outside


def preprocess(
    img: np.ndarray,
    bbox: Sequence[float] | np.ndarray | None = None,
    landmark: Points | None = None,
    image_size: Size | str = (112, 112),
    margin: float = 44,
) -> np.ndarray:
    """Align a face by its landmarks; without landmarks crop its box; without a box crop the image's centre.

    Args:
        img: An image as `to_bgr` takes it; three channels stay in their order, RGB or BGR.
        bbox: The face's box: x1, y1, x2, y2; further values, such as a score, are ignored.
        landmark: (5, 2), x and y in pixels of left eye, right eye, nose, left and right corner of the mouth.
        image_size: Height and width of the result, or a text such as '112,112'.
        margin: Pixels added to the box's width and height, half of them on each side.

    Returns:
        (height, width, 3) uint8.

    Raises:
        ValueError: A shape or size is wrong, or the box lies outside the image.
    """
    image, size = to_bgr(img), _height_width(image_size)
    if landmark is not None:
        return warp(image, similarity(landmark, reference(size)), size)
    box = centre_box(image) if bbox is None else padded_box(image, bbox, margin)
    return crop(image, box, size)


def align(image: np.ndarray, landmark: Points, image_size: Size) -> np.ndarray:
    """Align a face by its landmarks for a network of any size: to 112x96 or 112x112, which is then fitted.

    Args:
        image: As for `preprocess`.
        landmark: (5, 2), x and y in pixels.
        image_size: Height and width of the network's input.

    Returns:
        (height, width, 3) uint8.

    Raises:
        ValueError: As for `preprocess`.
    """
    size = NARROW if tuple(image_size) == NARROW else FULL
    return fit(preprocess(image, landmark=landmark, image_size=size), image_size)


def reference(image_size: Size) -> np.ndarray:
    """Return where the five landmarks lie in an aligned image: (5, 2), x and y in pixels.

    Raises:
        ValueError: The image size, height and width, is neither 112x112 nor 112x96.
    """
    if tuple(image_size) not in (FULL, NARROW):
        raise ValueError(f"faces are aligned to 112,112 or 112,96 (height,width) pixels, not to {image_size}")
    return REFERENCE + np.array([(image_size[1] - 96) / 2, 0])


def similarity(source: Points, target: Points) -> np.ndarray:
    """Find the rotation, scale and shift that move the points `source` nearest to `target`.

    Least squares without reflection (Umeyama, TPAMI 1991, equations 40-43). With points as complex numbers z the map is
    a z + b.

    Args:
        source: (n, 2), two points or more.
        target: (n, 2).

    Returns:
        A 2x3 matrix for cv2.warpAffine.

    Raises:
        ValueError: The shapes are wrong, or the points of `source` all lie in one place.
    """
    z, w = _complex(source), _complex(target)
    if len(z) != len(w):
        raise ValueError(f"{len(z)} points cannot be taken to {len(w)}")
    centred = z - z.mean()
    extent = np.vdot(centred, centred).real
    if not extent > 0:
        raise ValueError("landmarks that all lie in one place give no alignment")
    a = np.vdot(centred, w - w.mean()) / extent
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def warp(image: np.ndarray, matrix: np.ndarray, image_size: Size) -> np.ndarray:
    """Move an image by a 2x3 matrix into a frame of image_size, height and width; the rest of the frame is black.

    Raises:
        ValueError: The image's longer side has more than 32766 pixels.
    """
    if max(image.shape[:2]) > MAX_SIDE:
        raise ValueError(
            f"an image of {image.shape[1]}x{image.shape[0]} pixels is too long to align: {MAX_SIDE} at most"
        )
    return cv2.warpAffine(image, matrix, (image_size[1], image_size[0]), borderValue=0.0)


def centre_box(image: np.ndarray) -> Box:
    """Return the middle 7/8 of an image's width and height."""
    height, width = image.shape[:2]
    left, top = width // 16, height // 16
    return left, top, width - left, height - top


def padded_box(image: np.ndarray, bbox: Sequence[float] | np.ndarray, margin: float) -> Box:
    """Return a box with half the margin on each side, clipped to the image.

    Raises:
        ValueError: The box is not four finite numbers.
    """
    if np.ndim(bbox) != 1 or len(bbox) < 4 or not np.isfinite(bbox[:4]).all():
        raise ValueError(f"a box is four numbers x1, y1, x2, y2, not {bbox}")
    height, width = image.shape[:2]
    x1, y1, x2, y2 = bbox[:4]
    left, top = int(max(x1 - margin / 2, 0)), int(max(y1 - margin / 2, 0))
    return left, top, int(min(x2 + margin / 2, width)), int(min(y2 + margin / 2, height))


def crop(image: np.ndarray, box: Box, image_size: Size) -> np.ndarray:
    """Cut a box out of an image and resize it to image_size, height and width.

    Raises:
        ValueError: The box lies outside the image.
    """
    left, top, right, bottom = box
    part = image[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    if not part.size:
        raise ValueError(f"the box {box} lies outside the image of {image.shape[1]}x{image.shape[0]} pixels")
    return cv2.resize(part, (image_size[1], image_size[0]))


def _height_width(image_size: Size | str) -> Size:
    """Check an image size; a text is parsed as on the command line."""
    text = image_size if isinstance(image_size, str) else ",".join(map(str, image_size))
    try:
        return types.image_size(text)
    except argparse.ArgumentTypeError as error:
        raise ValueError(f"an image size is height and width in whole pixels, not {image_size!r}") from error


def _complex(values: Points) -> np.ndarray:
    """Return points as complex numbers x + iy."""
    points = np.asarray(values, np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise ValueError(
            f"points are finite numbers of shape (n, 2), x and y, not {points.shape}; "
            "the detector's ten values, x1..x5 and y1..y5, become such points by reshape(2, 5).T"
        )
    if np.abs(points).max(initial=0) > MAX_PLACE:
        raise ValueError(f"points are in pixels, none of which is {np.abs(points).max():g} pixels away")
    return points[:, 0] + 1j * points[:, 1]
