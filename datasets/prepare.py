"""From a photo to the encoded, aligned face that data sets hold."""

from __future__ import annotations

from typing import Any, Sequence, Tuple

import cv2
import numpy as np

from insightface_mx.base.errors import UserError
from insightface_mx.datasets.face_options import FaceOptions
from insightface_mx.detection.finder import Found, find_faces
from insightface_mx.photos.alignment import preprocess
from insightface_mx.photos.decode import decode_photo, fit
from insightface_mx.photos.image_files import extension
from insightface_mx.photos.lists import Photo
from insightface_mx.photos.sources import PhotoReader

PIXELS_AT_ONCE = 1 << 24  # of the photos that are in memory together

Prepared = Tuple[bytes, str]  # the encoded face and '', or b'' and the reason why there is none


class Preparer:
    """Makes faces from photos; each worker process has its own."""

    def __init__(self, options: FaceOptions) -> None:
        """Take the options; the detector is loaded when a photo needs it."""
        self._options, self._reader = options, PhotoReader()
        self._detector: Any = None

    def __call__(self, photos: Sequence[Photo]) -> list[Prepared]:
        """Return for every photo its encoded face and '', or b'' and the reason why there is none."""
        results: list[Prepared] = [(b"", "")] * len(photos)
        waiting: dict[int, np.ndarray] = {}  # photos, by index, whose faces must be found
        pixels = 0
        for index, photo in enumerate(photos):
            image, results[index] = self._without_detection(photo)
            if image is not None:
                waiting[index] = image
                pixels += image[:, :, 0].size
            if pixels > PIXELS_AT_ONCE:
                results = self._with_detection(waiting, results)
                waiting, pixels = {}, 0
        return self._with_detection(waiting, results)

    def _without_detection(self, photo: Photo) -> tuple[np.ndarray | None, Prepared]:
        """Return the image of a photo whose face must be found, otherwise None and what was prepared."""
        try:
            encoded = self._read(photo)
            image = decode_photo(encoded, "it")
            if not (self._options.aligned or photo.aligned or photo.box or photo.landmark):
                return image, (b"", "")
            return None, (self._known_face(photo, encoded, image), "")
        except UserError as error:
            return None, (b"", str(error))

    def _read(self, photo: Photo) -> bytes:
        try:
            return self._reader.read(photo)
        except FileNotFoundError as error:
            raise UserError("there is no such file") from error
        except OSError as error:
            raise UserError(f"it cannot be read: {error.strerror}") from error

    def _known_face(self, photo: Photo, encoded: bytes, image: np.ndarray) -> bytes:
        """Return the encoded face of a photo that is aligned or whose face's place is given."""
        if photo.landmark:
            return self._align(image, landmark=np.reshape(photo.landmark, (2, 5)).T)
        if photo.box:
            return self._align(image, bbox=photo.box)
        if image.shape[:2] == self._options.image_size and extension(encoded) in (".jpg", ".png"):
            return encoded  # as it is: encoding it again would only lose
        return self._encode(fit(image, self._options.image_size))

    def _with_detection(self, waiting: dict[int, np.ndarray], results: list[Prepared]) -> list[Prepared]:
        """Return the results with those of the photos whose faces must be found."""
        if not waiting:
            return results
        if self._detector is None:
            from insightface_mx.detection.detector import MtcnnDetector

            self._detector = MtcnnDetector(self._options.detector, minsize=self._options.min_face)
        found = find_faces(self._detector, list(waiting.values()))
        for (index, image), faces in zip(waiting.items(), found):
            results[index] = self._found_face(image, faces)
        return results

    def _found_face(self, photo: np.ndarray, found: Found | None) -> Prepared:
        if found is None and self._options.no_face == "skip":
            return b"", "no face found"
        try:
            if found is None:
                return self._align(photo), ""
            image = found.view.image
            return self._align(image, landmark=main_face(found.boxes, found.points, image.shape)), ""
        except UserError as error:
            return b"", str(error)

    def _align(self, image: np.ndarray, **place: Any) -> bytes:
        """Align an image as `preprocess` does and encode it. UserError: the box or the landmarks fit no face."""
        try:
            return self._encode(preprocess(image, image_size=self._options.image_size, **place))
        except ValueError as error:
            raise UserError(str(error)) from error

    def _encode(self, image: np.ndarray) -> bytes:
        if self._options.png:
            return cv2.imencode(".png", image)[1].tobytes()
        return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, self._options.quality])[1].tobytes()


def main_face(boxes: np.ndarray, points: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Choose the face that a photo is of: large and near its centre, as in the original's alignment of LFW.

    The score is the area less twice the squared distance from the photo's centre, in pixels.

    Args:
        boxes: (n, 5), as MtcnnDetector gives them.
        points: (n, 10), likewise.
        shape: Of the photo, height and width first.

    Returns:
        The landmarks of the face with the largest score, (5, 2).
    """
    corners, ends = boxes[:, :2], boxes[:, 2:4]
    distance = (corners + ends) / 2 - np.array([shape[1], shape[0]]) / 2
    score = np.prod(ends - corners, axis=1) - 2 * (distance**2).sum(axis=1)
    return points[score.argmax()].reshape(2, 5).T
