"""What MTCNN does with boxes between its networks; numpy and OpenCV only.

A box is x1, y1, x2, y2, score in pixels; as in the original both ends belong to it, so that its width is x2 - x1 + 1.
"""

import cv2
import numpy as np

CELL = 12  # side of what P judges, in pixels of the scaled image
STRIDE = 2  # from one such cell to the next


def scales(height, width, minsize, factor):
    """Scales of the image pyramid: from minsize pixels seen as a cell, each `factor` of the one before, to one cell."""
    found, scale = [], CELL / minsize
    while min(height, width) * scale > CELL:
        found.append(scale)
        scale *= factor
    return found


def scaled(image, scale):
    """An image (h, w, 3) resized by a factor, its sides rounded up."""
    height, width = image.shape[:2]
    return cv2.resize(image, (int(np.ceil(width * scale)), int(np.ceil(height * scale))))


def proposals(probability, regression, scale, threshold):
    """Boxes of P's cells whose probability is above the threshold: (n, 9), the last four their regression.

    probability: (h, w). regression: (4, h, w). scale: of the image that P saw.
    """
    rows, columns = np.nonzero(probability > threshold)
    corner = STRIDE * np.stack([columns, rows], axis=1) + 1
    ends = np.round(np.hstack([corner, corner + CELL]) / scale)
    return np.hstack([ends, probability[rows, columns, None], regression[:, rows, columns].T])


def nms(boxes, threshold, mode="union"):
    """Numbers of the boxes (n, 5 or more) to keep, best score first: none overlaps a better one by over `threshold`.

    mode: overlap is the intersection divided by the 'union' of the two or by the smaller of them ('min').
    """
    area = np.prod(_sides(boxes), axis=1)
    rest, kept = np.argsort(-boxes[:, 4], kind="stable"), []
    while len(rest):
        best, rest = rest[0], rest[1:]
        kept.append(best)
        both = np.hstack([np.maximum(boxes[best, :2], boxes[rest, :2]), np.minimum(boxes[best, 2:4], boxes[rest, 2:4])])
        shared = np.prod(np.maximum(_sides(both), 0), axis=1)
        whole = np.minimum(area[best], area[rest]) if mode == "min" else area[best] + area[rest] - shared
        rest = rest[shared <= threshold * whole]
    return np.array(kept, np.int64)


def calibrated(boxes, regression):
    """Boxes (n, 5) with their ends moved by the regression (n, 4), which is in shares of width and height."""
    ends = boxes[:, :4] + regression * np.tile(_sides(boxes), 2)
    return np.hstack([ends, boxes[:, 4:5]])


def squared(boxes):
    """Boxes (n, 5) grown to squares around their centres, in whole pixels."""
    sides = _sides(boxes)
    longest = sides.max(axis=1, keepdims=True)
    corner = boxes[:, :2] + (sides - longest) * 0.5
    return np.hstack([np.round(np.hstack([corner, corner + longest - 1])), boxes[:, 4:5]])


def landmark_places(boxes, shares):
    """Places in pixels of landmarks that are given in shares of a box: (n, 10), x1..x5 and y1..y5 like `shares`."""
    return np.repeat(boxes[:, :2], 5, axis=1) + np.repeat(_sides(boxes), 5, axis=1) * shares


def landmark_patches(boxes, points):
    """Squares of an even number of pixels, a quarter of the longer side of a box, around its landmarks: (n, 5, 4)."""
    side = np.round(_sides(boxes).max(axis=1) * 0.25)
    side += side % 2
    corner = np.round(points.reshape(-1, 2, 5).transpose(0, 2, 1) - side[:, None, None] * 0.5)
    return np.concatenate([corner, corner + side[:, None, None] - 1], axis=2)


def patch_places(patches, shares):
    """Places in pixels of shares (n, 5, 2) of patches (n, 5, 4): (n, 10), x1..x5 and y1..y5."""
    places = patches[..., :2] + shares * _sides(patches)
    return places.transpose(0, 2, 1).reshape(-1, 10)


def crop(image, box, size):
    """A box of whole pixels cut from an image (h, w, 3) and resized to size x size; black where the image ends."""
    x1, y1, x2, y2 = (int(end) for end in box[:4])
    height, width = image.shape[:2]
    inside = image[max(y1, 0) : max(y2 + 1, 0), max(x1, 0) : max(x2 + 1, 0)]
    if not inside.size:
        return np.zeros((size, size, 3), np.uint8)
    border = max(-y1, 0), max(y2 + 1 - height, 0), max(-x1, 0), max(x2 + 1 - width, 0)
    return cv2.resize(cv2.copyMakeBorder(inside, *border, cv2.BORDER_CONSTANT, value=0), (size, size))


def _sides(boxes):
    """Width and height, (..., 2)."""
    return boxes[..., 2:4] - boxes[..., :2] + 1
