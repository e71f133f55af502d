"""From a photo to the encoded, aligned face that data sets hold."""

from typing import NamedTuple, Optional, Tuple

import cv2
import numpy as np

from insightface_mx.alignment import preprocess
from insightface_mx.base.errors import UserError
from insightface_mx.photos.decode import decode_photo, extension, fit
from insightface_mx.photos.sources import PhotoReader

LONGEST = 1600  # pixels: faces are looked for in a smaller copy of a longer photo
SHORTEST = 200  # a photo below is enlarged twice where no face was found
PIXELS_AT_ONCE = 1 << 24  # of the photos that are in memory together


class Settings(NamedTuple):
    """How faces are made: image_size height and width; png: lossless, else JPEG of `quality` 1..100.

    aligned: all photos are crops already. no_face: 'skip' such a photo, or 'crop' its middle. min_face: pixels, the
    smallest face looked for. detector: folder of MTCNN's det1 to det3, None: the package mtcnn.
    """

    image_size: Tuple[int, int] = (112, 112)
    png: bool = False
    quality: int = 95
    aligned: bool = False
    no_face: str = "skip"
    min_face: int = 20
    detector: Optional[str] = None


class Preparer:
    """Turns photos into faces; one for each worker, as its detector serves one thread at a time."""

    def __init__(self, settings):
        self._settings, self._detector, self._reader = settings, None, PhotoReader()

    def __call__(self, photos):
        """For every photo its encoded face and '', or b'' and the reason why there is none."""
        results, waiting, pixels = [None] * len(photos), [], 0
        for number, photo in enumerate(photos):
            try:
                encoded, image = self._load(photo)
                if self._to_detect(photo):
                    waiting.append((number, image))
                    pixels += image[:, :, 0].size
                else:
                    results[number] = self._without_detection(photo, encoded, image), ""
            except _Unusable as unusable:
                results[number] = b"", str(unusable)
            if pixels > PIXELS_AT_ONCE:
                self._detect(waiting, results)
                waiting, pixels = [], 0
        self._detect(waiting, results)
        return results

    def _load(self, photo):
        """A photo's bytes and its pixels (h, w, 3) uint8 BGR, upright."""
        try:
            encoded = self._reader.read(photo)
            if not encoded:
                raise _Unusable("it is empty")
            return encoded, decode_photo(encoded, "it")
        except FileNotFoundError as error:
            raise _Unusable("there is no such file") from error
        except OSError as error:
            raise _Unusable(f"it cannot be read: {error.strerror}") from error
        except UserError as error:
            raise _Unusable(error) from error

    def _to_detect(self, photo):
        return not (self._settings.aligned or photo.aligned or photo.box or photo.landmark)

    def _without_detection(self, photo, encoded, image):
        if photo.landmark:
            return self._align(image, landmark=np.reshape(photo.landmark, (2, 5)).T)
        if photo.box:
            return self._align(image, bbox=photo.box)
        if image.shape[:2] == tuple(self._settings.image_size) and extension(encoded) in (".jpg", ".png"):
            return encoded  # as it is: encoding it again would only lose
        return self._encode(fit(image, self._settings.image_size))

    def _detect(self, waiting, results):
        """Fill in the results of (number, image) photos whose faces are not known."""
        found = self._faces([image for _, image in waiting])
        for (number, _), (looked_at, face) in zip(waiting, found):
            results[number] = self._result(looked_at, face)

    def _result(self, image, face):
        if face is None and self._settings.no_face == "skip":
            return b"", "no face found"
        try:
            return self._align(image, landmark=face), ""
        except _Unusable as unusable:
            return b"", str(unusable)

    def _faces(self, images):
        """For each image what was looked at in the end and the landmarks (5, 2) of its main face, or None."""
        found = list(zip(images, self._landmarks(images)))
        missed = [number for number, (_, face) in enumerate(found) if face is None]
        closer = [bordered(images[number]) for number in missed]
        for number, image, face in zip(missed, closer, self._landmarks(closer)):
            found[number] = (images[number] if face is None else image), face
        return found

    def _landmarks(self, images):
        scales = [min(1, LONGEST / max(image.shape[:2])) for image in images]
        small = [
            cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image
            for image, scale in zip(images, scales)
        ]
        faces = self._detect_faces(small) if small else []
        return [
            None if face is None else main_face(*face, image.shape) / scale
            for image, face, scale in zip(small, faces, scales)
        ]

    def _detect_faces(self, images):
        if self._detector is None:
            from insightface_mx.detection.detector import MtcnnDetector

            self._detector = MtcnnDetector(self._settings.detector, minsize=self._settings.min_face)
        return self._detector.detect_faces(images)

    def _align(self, image, **where):
        try:
            return self._encode(preprocess(image, image_size=self._settings.image_size, **where))
        except ValueError as error:
            raise _Unusable(error) from error

    def _encode(self, image):
        if self._settings.png:
            return cv2.imencode(".png", image)[1].tobytes()
        return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, self._settings.quality])[1].tobytes()


def main_face(boxes, points, shape):
    """Landmarks (5, 2) of the face that a photo is of: large and near its middle.

    boxes (n, 5), points (n, 10): as MtcnnDetector gives them. As in the original's alignment of LFW the score is the
    area less twice the squared distance from the photo's middle, in pixels.
    """
    corners, ends = boxes[:, :2], boxes[:, 2:4]
    distance = (corners + ends) / 2 - np.array([shape[1], shape[0]]) / 2
    score = np.prod(ends - corners, axis=1) - 2 * (distance**2).sum(axis=1)
    return points[score.argmax()].reshape(2, 5).T


def bordered(image):
    """A photo with a black quarter of its sides added all around, twice as large where it is small.

    MTCNN misses faces that fill a photo.
    """
    height, width = (side // 4 for side in image.shape[:2])
    image = cv2.copyMakeBorder(image, height, height, width, width, cv2.BORDER_CONSTANT, value=0)
    return cv2.resize(image, None, fx=2, fy=2) if min(image.shape[:2]) < SHORTEST else image


class _Unusable(Exception):
    """Why a photo gives no face."""
