"""Turn photos into embeddings, gender and age: the original's FaceModel.

model = FaceModel(model="../model/r50,1")
one, other = (model.get_feature(model.get_input(cv2.imread(path))) for path in ("a.jpg", "b.jpg"))
same = np.sum((one - other) ** 2) < model.threshold
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, NamedTuple, Optional, Sequence, Union

import numpy as np

from insightface_mx.base.compat import mxnet_lock
from insightface_mx.base.errors import UserError
from insightface_mx.cli.types import USUAL_SIZE, Size
from insightface_mx.deploy.face_options import make_face_options
from insightface_mx.detection.detector import MtcnnDetector
from insightface_mx.detection.finder import Found, View, find_faces
from insightface_mx.embedding import backends
from insightface_mx.embedding.embedder import Embedder
from insightface_mx.engine.denormals import flush_in_threads
from insightface_mx.engine.devices import get_contexts
from insightface_mx.photos.alignment import align
from insightface_mx.photos.decode import network_input, to_bgr

DETECTION = {0: (0.6, 0.7, 0.8), 1: (0.0, 0.0, 0.2)}  # det -> thresholds; a crop is known to show a face
GENDER_AGE_LENGTH = 202  # outputs of a gender-age network

AlignedFaces = Union[np.ndarray, Sequence[Optional[np.ndarray]], None]  # one face, several, or what get_input returns


class Face(NamedTuple):
    """A face in an image.

    Attributes:
        box: x1, y1, x2, y2 in pixels.
        score: Probability, 0 to 1.
        landmarks: (5, 2), x and y in pixels; None where no detector has seen the image.
        aligned: (3, height, width) uint8, RGB.
    """

    box: np.ndarray
    score: float
    landmarks: np.ndarray | None
    aligned: np.ndarray


if TYPE_CHECKING:
    loaded_once = functools.cached_property
else:

    class loaded_once(functools.cached_property):
        """A cached property that threads wait for; without a lock, Python 3.12 computes one in each of them."""

        def __get__(self, instance: object, owner: type | None = None) -> Any:
            """Return the value, which is computed at the first call."""
            with mxnet_lock:
                return super().__get__(instance, owner)


class FaceModel:
    """Detector, embedding network and gender-age network, each loaded when it is first used.

    Several threads may use one object, as those of a web server do. What MXNet runs, they run one after the other.

    Attributes:
        options: The FaceOptions.
        threshold: Squared distance of unit embeddings; below it two faces show one identity.
    """

    def __init__(self, args: object | None = None, **options: Any) -> None:
        """Take the options of `FaceOptions`.

        Args:
            args: An object whose attributes are options, such as argparse or FaceOptions gives; None: none.
            options: Options by name; they replace those of `args`.

        Raises:
            TypeError: There is no option of a name.
            UserError: A value does not fit.
        """
        self.options = make_face_options(args, **options)
        self.threshold = self.options.threshold

    def get_input(self, face_img: np.ndarray) -> np.ndarray | None:
        """Return the most probable face of a BGR image, aligned: (3, height, width) uint8 RGB; None without a face.

        Like the original it looks at the image as it is. Where the original would find nothing, it looks again as
        `finder.find_faces` says.
        """
        faces = self.get_faces([face_img])[0]
        return faces[0].aligned if faces else None

    def get_faces(self, images: Sequence[np.ndarray]) -> list[list[Face]]:
        """Find all faces of every BGR image.

        Args:
            images: Arrays that `decode.to_bgr` takes, of any sizes.

        Returns:
            A list for each image, the most probable face first.
        """
        images = [to_bgr(image) for image in images]
        if self.options.det == 0:
            found = find_faces(self.detector, images, longest=math.inf)
        else:
            in_crops = self.detector.detect_faces(images, det_type=self.options.det)
            found = [faces and Found(View(image), *faces) for image, faces in zip(images, in_crops)]
        return [self._faces(faces) if faces else [] for faces in found]

    def get_feature(self, aligned: AlignedFaces) -> np.ndarray:
        """Return unit embeddings, float32: (d,) for one aligned face (3, height, width), (n, d) for n of them.

        Raises:
            UserError: `aligned` is or holds None, what `get_input` returns for an image without a face.
        """
        faces = self._aligned_faces(aligned)
        features = self.embedder(faces.reshape(-1, *faces.shape[-3:])).astype(np.float32)
        return features[0] if faces.ndim == 3 else features

    def get_ga(self, aligned: AlignedFaces) -> tuple[int, int] | tuple[np.ndarray, np.ndarray]:
        """Return gender, 0 female and 1 male, and age in years of one aligned face, or two arrays (n,) for n of them.

        Of the network's 202 outputs two give the gender, and 100 pairs whether the age is above 0, 1, ... 99.

        Raises:
            UserError: As for `get_feature`.
        """
        faces = self._aligned_faces(aligned)
        values = self.gender_age.embed(faces.reshape(-1, *faces.shape[-3:]))
        gender = values[:, :2].argmax(axis=1)
        age = values[:, 2:].reshape(-1, 100, 2).argmax(axis=2).sum(axis=1)
        return (int(gender[0]), int(age[0])) if faces.ndim == 3 else (gender, age)

    @functools.cached_property
    def image_size(self) -> Size:
        """Height and width of an aligned face: as given, otherwise that of the network."""
        chosen = self.options
        if chosen.image_size:
            return chosen.image_size
        if chosen.model:
            return backends.image_size_of(chosen.model, chosen.network_input)
        return backends.image_size_of(chosen.ga_model) if chosen.ga_model else USUAL_SIZE

    @loaded_once
    def detector(self) -> MtcnnDetector:
        """The face detector."""
        contexts = get_contexts(self.options.device)
        flush_in_threads(contexts)
        folder = self.options.detector or None
        return MtcnnDetector(
            folder, threshold=DETECTION[self.options.det], accurate_landmark=folder is not None, ctx=contexts[0]
        )

    @loaded_once
    def embedder(self) -> Embedder:
        """The embedding network."""
        chosen = self.options
        if not chosen.model:
            raise UserError("no network: give model as PREFIX,EPOCH or FILE.onnx")
        return Embedder(
            chosen.model,
            self.image_size,
            chosen.device,
            bool(chosen.flip),
            chosen.backend,
            network_input=chosen.network_input,
        )

    @loaded_once
    def gender_age(self) -> backends.Backend:
        """The gender-age network."""
        chosen = self.options
        if not chosen.ga_model:
            raise UserError("no network: give ga_model as PREFIX,EPOCH or FILE.onnx")
        backend = backends.load(chosen.ga_model, self.image_size, chosen.backend, chosen.device)
        if backend.length != GENDER_AGE_LENGTH:
            raise UserError(
                f"{chosen.ga_model} has {backend.length} outputs, not the {GENDER_AGE_LENGTH} of a gender-age network"
            )
        return backend

    def _faces(self, found: Found) -> list[Face]:
        """Align the faces of an image."""
        faces = []
        for box, landmarks in zip(found.boxes, found.points.reshape(-1, 2, 5).transpose(0, 2, 1)):
            aligned = align(found.view.image, landmarks, self.image_size)
            corners = found.view.to_photo(box[:4].reshape(2, 2)).ravel()
            faces.append(Face(corners, float(box[4]), found.view.to_photo(landmarks), network_input(aligned)))
        return faces

    def _aligned_faces(self, aligned: AlignedFaces) -> np.ndarray:
        """Return aligned faces as one array. UserError: a face is missing."""
        missing = [index for index, face in enumerate([aligned] if aligned is None else aligned) if face is None]
        if missing:
            place = "" if aligned is None else f" in image {missing[0]}"
            raise UserError(
                f"no face{place}: get_input found none, so there is nothing to embed; leave such images out"
            )
        faces = np.asarray(aligned)
        return faces if faces.size else np.empty((0, 3, *self.image_size), np.uint8)
