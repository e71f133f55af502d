"""Faces brought to the place, size and format that the networks were trained on."""

import cv2
import numpy as np

from insightface_mx.photos.decode import to_bgr

# Left eye, right eye, nose, left and right corner of the mouth: x and y in an aligned image of 112x96 pixels.
REFERENCE = np.array(
    [(30.2946, 51.6963), (65.5318, 51.5014), (48.0252, 71.7366), (33.5493, 92.3655), (62.7299, 92.2041)]
)

MAX_SIDE = 32766  # of cv2.warpAffine


def preprocess(img, bbox=None, landmark=None, image_size=(112, 112), margin=44):
    """Align a face by its landmarks; without any, crop its box; without that, crop the image's centre.

    img: what `to_bgr` takes; three channels stay in their order, whichever that is. bbox: x1, y1, x2, y2, and more
    numbers that are ignored. landmark: (5, 2), x and y of left eye, right eye, nose, left and right corner of the
    mouth, in pixels. image_size: (height, width), or the original's text '112,112'. margin: pixels added to the box's
    width and height, half of them on each side. Returns (height, width, 3) uint8. Raises ValueError for other shapes
    and sizes, and for a box outside the image.
    """
    image, image_size = to_bgr(img), _height_width(image_size)
    if landmark is not None:
        return warp(image, similarity(landmark, reference(image_size)), image_size)
    box = centre_box(image) if bbox is None else padded_box(image, bbox, margin)
    return crop(image, box, image_size)


def reference(image_size):
    """Where the five landmarks lie in an aligned image of 112x112 or 112x96 pixels (height, width): (5, 2) x and y."""
    if tuple(image_size) not in ((112, 112), (112, 96)):
        raise ValueError(f"faces are aligned to 112,112 or 112,96 (height,width) pixels, not to {image_size}")
    return REFERENCE + np.array([(image_size[1] - 96) / 2, 0])


def similarity(source, target):
    """Rotation, scale and shift that take the points `source` nearest to `target`: a 2x3 matrix for cv2.warpAffine.

    source, target: (n, 2), two points or more. Least squares without reflection (Umeyama, TPAMI 1991, equations 40-43):
    with points as complex numbers the map is a z + b. Raises ValueError where source has no extent.
    """
    source, target = _points(source), _points(target)
    if len(source) != len(target):
        raise ValueError(f"{len(source)} points cannot be taken to {len(target)}")
    z, w = (points[:, 0] + 1j * points[:, 1] for points in (source, target))
    centred = z - z.mean()
    extent = np.vdot(centred, centred).real
    if not extent > 0:
        raise ValueError("landmarks that all lie in one place give no alignment")
    a = np.vdot(centred, w - w.mean()) / extent
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def warp(image, matrix, image_size):
    """Move an image by a 2x3 matrix into a frame of image_size (height, width); black where it does not reach.

    Raises ValueError for an image whose longer side has over 32766 pixels.
    """
    if max(image.shape[:2]) > MAX_SIDE:
        raise ValueError(
            f"an image of {image.shape[1]}x{image.shape[0]} pixels is too long to align: {MAX_SIDE} at most"
        )
    return cv2.warpAffine(image, matrix, (image_size[1], image_size[0]), borderValue=0.0)


def centre_box(image):
    """The middle 7/8 of the width and of the height: x1, y1, x2, y2 in whole pixels, the last two exclusive."""
    height, width = image.shape[:2]
    left, top = width // 16, height // 16
    return left, top, width - left, height - top


def padded_box(image, bbox, margin):
    """A box with half the margin on each side, cut off at the image's edges; as `centre_box` gives it."""
    if np.ndim(bbox) != 1 or len(bbox) < 4 or not np.isfinite(bbox[:4]).all():
        raise ValueError(f"a box is four numbers x1, y1, x2, y2, not {bbox}")
    height, width = image.shape[:2]
    x1, y1, x2, y2 = bbox[:4]
    left, top = int(max(x1 - margin / 2, 0)), int(max(y1 - margin / 2, 0))
    return left, top, int(min(x2 + margin / 2, width)), int(min(y2 + margin / 2, height))


def crop(image, box, image_size):
    """A part of an image, resized to image_size (height, width). Raises ValueError where the part is empty."""
    left, top, right, bottom = box
    part = image[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    if not part.size:
        raise ValueError(f"the box {box} lies outside the image of {image.shape[1]}x{image.shape[0]} pixels")
    return cv2.resize(part, (image_size[1], image_size[0]))


def _height_width(image_size):
    sides = image_size.split(",") if isinstance(image_size, str) else image_size
    if len(sides) != 2 or not all(str(side).strip().isdigit() and int(side) > 0 for side in sides):
        raise ValueError(f"an image size is height and width in whole pixels, not {image_size!r}")
    return int(sides[0]), int(sides[1])


def _points(values):
    points = np.asarray(values, np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise ValueError(
            f"points are finite numbers of shape (n, 2), x and y, not {points.shape}; "
            "make the detector's ten, x1..x5 y1..y5, such by reshape(2, 5).T"
        )
    return points
