"""Compute with MTCNN's boxes between its networks, in numpy and OpenCV alone.

A box is x1, y1, x2, y2, score in pixels. As in the original both ends belong to it, so its width is x2 - x1 + 1.
"""

from __future__ import annotations

from typing import Sequence

import cv2
import numpy as np

CELL = 12  # side of a cell, which P judges, in pixels of the scaled image
STRIDE = 2  # from one cell to the next


def scales(height: int, width: int, minsize: float, factor: float) -> list[float]:
    """Return the scales of the image pyramid.

    At the first one, a face of minsize pixels fills a cell; each is `factor` of the one before, and at the last one the
    image is still larger than a cell.

    Args:
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        minsize: Side of the smallest face, in pixels.
        factor: Between 0 and 1.
    """
    found, scale = [], CELL / minsize
    while min(height, width) * scale > CELL:
        found.append(scale)
        scale *= factor
    return found


def scaled(image: np.ndarray, scale: float) -> np.ndarray:
    """Resize an image (h, w, 3) by a factor, and round its sides up."""
    height, width = image.shape[:2]
    return cv2.resize(image, (int(np.ceil(width * scale)), int(np.ceil(height * scale))))


def proposals(probability: np.ndarray, regression: np.ndarray, scale: float, threshold: float) -> np.ndarray:
    """Return the boxes of P's cells with a probability above the threshold.

    Args:
        probability: Of a face in each cell, (h, w).
        regression: Of each cell's box, (4, h, w).
        scale: Of the image that P saw.
        threshold: Between 0 and 1.

    Returns:
        (n, 9): boxes in pixels of the unscaled image, and the four values of their regression.
    """
    rows, columns = np.nonzero(probability > threshold)
    corner = STRIDE * np.stack([columns, rows], axis=1) + 1
    ends = np.round(np.hstack([corner, corner + CELL]) / scale)
    return np.hstack([ends, probability[rows, columns, None], regression[:, rows, columns].T])


def nms(boxes: np.ndarray, threshold: float, mode: str = "union") -> np.ndarray:
    """Suppress non-maximum boxes: keep the best box, remove those that overlap it, and repeat with the rest.

    Args:
        boxes: (n, 5 or more).
        threshold: The largest overlap of two boxes that are both kept.
        mode: The overlap is the area of the intersection, divided by the area of the 'union' or, with 'min', of the
            smaller box.

    Returns:
        Indices of the boxes to keep, best score first.
    """
    area = np.prod(_sides(boxes), axis=1)
    rest, kept = np.argsort(-boxes[:, 4], kind="stable"), []
    while len(rest):
        best, rest = rest[0], rest[1:]
        kept.append(best)
        both = np.hstack([np.maximum(boxes[best, :2], boxes[rest, :2]), np.minimum(boxes[best, 2:4], boxes[rest, 2:4])])
        shared = np.prod(np.maximum(_sides(both), 0), axis=1)
        divisor = np.minimum(area[best], area[rest]) if mode == "min" else area[best] + area[rest] - shared
        rest = rest[shared <= threshold * divisor]
    return np.array(kept, np.int64)


def calibrated(boxes: np.ndarray, regression: np.ndarray) -> np.ndarray:
    """Move the ends of boxes (n, 5) by their regression (n, 4), in fractions of width and height."""
    ends = boxes[:, :4] + regression * np.tile(_sides(boxes), 2)
    return np.hstack([ends, boxes[:, 4:5]])


def squared(boxes: np.ndarray) -> np.ndarray:
    """Grow boxes (n, 5) to squares around their centres, in whole pixels."""
    sides = _sides(boxes)
    longest = sides.max(axis=1, keepdims=True)
    corner = boxes[:, :2] + (sides - longest) * 0.5
    return np.hstack([np.round(np.hstack([corner, corner + longest - 1])), boxes[:, 4:5]])


def landmark_places(boxes: np.ndarray, fractions: np.ndarray) -> np.ndarray:
    """Turn landmarks in fractions of their boxes into pixels: (n, 10), x1..x5 and y1..y5, as `fractions`."""
    return np.repeat(boxes[:, :2], 5, axis=1) + np.repeat(_sides(boxes), 5, axis=1) * fractions


def landmark_patches(boxes: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the patches around landmarks that L looks at.

    Args:
        boxes: (n, 5).
        points: (n, 10), x1..x5 and y1..y5 in pixels.

    Returns:
        (n, 5, 4): squares of an even number of pixels, a quarter of the box's longer side.
    """
    side = np.round(_sides(boxes).max(axis=1) * 0.25)
    side += side % 2
    corner = np.round(points.reshape(-1, 2, 5).transpose(0, 2, 1) - side[:, None, None] * 0.5)
    return np.concatenate([corner, corner + side[:, None, None] - 1], axis=2)


def patch_places(patches: np.ndarray, fractions: np.ndarray) -> np.ndarray:
    """Turn places in fractions (n, 5, 2) of patches (n, 5, 4) into pixels: (n, 10), x1..x5 and y1..y5."""
    places = patches[..., :2] + fractions * _sides(patches)
    return places.transpose(0, 2, 1).reshape(-1, 10)


def crop(image: np.ndarray, box: Sequence[float] | np.ndarray, size: int) -> np.ndarray:
    """Cut a box of whole pixels out of an image (h, w, 3) and resize it to size x size; outside the image is black."""
    x1, y1, x2, y2 = (int(end) for end in box[:4])
    height, width = image.shape[:2]
    inside = image[max(y1, 0) : max(y2 + 1, 0), max(x1, 0) : max(x2 + 1, 0)]
    if not inside.size:
        return np.zeros((size, size, 3), np.uint8)
    border = max(-y1, 0), max(y2 + 1 - height, 0), max(-x1, 0), max(x2 + 1 - width, 0)
    return cv2.resize(cv2.copyMakeBorder(inside, *border, cv2.BORDER_CONSTANT, value=0), (size, size))


def _sides(boxes: np.ndarray) -> np.ndarray:
    """Return width and height, (..., 2)."""
    return boxes[..., 2:4] - boxes[..., :2] + 1
