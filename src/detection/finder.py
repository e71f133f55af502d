"""Find the faces of photos in the same way in every command, also where one look with MTCNN misses them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Iterable, NamedTuple, Sequence

import cv2
import numpy as np

if TYPE_CHECKING:  # MXNet takes seconds to load
    from insightface_mx.detection.detector import Faces, MtcnnDetector

LONGEST = 1600  # pixels: faces are looked for in a smaller copy of a longer photo
SHORTEST = 200  # pixels: a photo with its border is enlarged twice where a side is shorter


class View(NamedTuple):
    """A photo as faces are looked for in it.

    Attributes:
        image: The photo, or what `add_border` makes of it.
        border: Pixels of the photo that are added on the left and at the top.
        zoom: How many times `image` is larger than the photo with its border.
    """

    image: np.ndarray
    border: tuple[int, int] = (0, 0)
    zoom: int = 1

    def to_photo(self, points: np.ndarray) -> np.ndarray:
        """Turn points (..., 2), x and y in pixels of `image`, into pixels of the photo."""
        return points / self.zoom - np.array(self.border)


class Found(NamedTuple):
    """The faces of a photo, the most probable one first.

    Attributes:
        view: What they were found in, and are to be aligned from.
        boxes: (n, 5), x1, y1, x2, y2 in pixels of the view's image, and the probability.
        points: (n, 10), x1..x5 and y1..y5 in pixels of the view's image.
    """

    view: View
    boxes: np.ndarray
    points: np.ndarray


def find_faces(detector: MtcnnDetector, photos: Sequence[np.ndarray], longest: float = LONGEST) -> list[Found | None]:
    """Find the faces of every photo; where there is none, look again in a smaller copy, and then with a border.

    Args:
        detector: The detector.
        photos: (height, width, 3) uint8 each, of any sizes.
        longest: Pixels of a photo's longer side at the first look, LONGEST or more; math.inf: as it is.

    Returns:
        For every photo its faces, None where there is none.
    """
    found: list[Found | None] = [None] * len(photos)

    def look(make_view: Callable[[np.ndarray], View], longest: float, indices: Iterable[int]) -> None:
        missed = [index for index in indices if found[index] is None]
        views = [make_view(photos[index]) for index in missed]
        for index, view, faces in zip(missed, views, _detect(detector, [view.image for view in views], longest)):
            if faces is not None:
                found[index] = Found(view, *faces)

    every = range(len(photos))
    look(View, longest, every)
    if longest > LONGEST:
        look(View, LONGEST, [index for index in every if max(photos[index].shape[:2]) > LONGEST])
    look(add_border, LONGEST, every)
    return found


def add_border(photo: np.ndarray) -> View:
    """Add a black quarter of its sides all around a photo, and enlarge it twice where it is small.

    MTCNN misses faces that fill a photo.
    """
    height, width = (side // 4 for side in photo.shape[:2])
    image = cv2.copyMakeBorder(photo, height, height, width, width, cv2.BORDER_CONSTANT, value=0)
    if min(image.shape[:2]) >= SHORTEST:
        return View(image, (width, height))
    return View(cv2.resize(image, None, fx=2, fy=2), (width, height), 2)


def _detect(detector: MtcnnDetector, images: Sequence[np.ndarray], longest: float) -> list[Faces | None]:
    """Find faces in copies of images whose longer side has `longest` pixels at most."""
    faces: list[Faces | None] = [None] * len(images)
    small: dict[int, np.ndarray] = {}
    scales: dict[int, float] = {}
    for index, image in enumerate(images):
        scale = min(1, longest / max(image.shape[:2]))
        height, width = (side * scale for side in image.shape[:2])
        if min(height, width) < 1 or detector.is_too_large(height, width):
            continue
        scales[index] = scale
        small[index] = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image
    for index, found in zip(small, detector.detect_faces(list(small.values()))):
        if found is not None:
            boxes, points = found
            faces[index] = np.hstack([boxes[:, :4] / scales[index], boxes[:, 4:]]), points / scales[index]
    return faces
