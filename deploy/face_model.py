"""From photos to embeddings, gender and age: the original's FaceModel.

model = FaceModel(model="../model/r50,1")
one, other = (model.get_feature(model.get_input(cv2.imread(path))) for path in ("a.jpg", "b.jpg"))
same = np.sum((one - other) ** 2) < model.threshold
"""

from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

from insightface_mx import alignment
from insightface_mx.base.errors import UserError
from insightface_mx.detection.detector import MtcnnDetector
from insightface_mx.embedding import backends
from insightface_mx.engine.denormals import flush_in_threads
from insightface_mx.engine.devices import get_contexts
from insightface_mx.eval import roc
from insightface_mx.photos import decode
from insightface_mx.photos.decode import fit, network_input

THRESHOLD = 1.24  # squared distance of unit embeddings, below which two faces are of one person
DEFAULTS = {
    "image_size": "112,112",  # height,width
    "model": "",  # the embedding network: PREFIX,EPOCH or an ONNX file
    "ga_model": "",  # the network for gender and age, as `model`
    "gpu": 0,  # number of the GPU; -1, or no such GPU: the CPU
    "det": 0,  # 0: look for faces everywhere; 1: every image is a crop of one face
    "flip": 0,  # 1: embeddings are those of image plus mirror image, as verification.py has them
    "threshold": THRESHOLD,
    "backend": "auto",  # one of backends.CHOICES
    "detector": "",  # folder with the original's det1 to det4; '': the weights of the package mtcnn
}
FULL, NARROW = (112, 112), (112, 96)  # sizes to align to; a network of another one gets a FULL face, made smaller
DETECTION = {0: (0.6, 0.7, 0.8), 1: (0.0, 0.0, 0.2)}  # thresholds by det; a crop is known to show a face


class Face(NamedTuple):
    """A face in an image: box (4,) x1, y1, x2, y2 in pixels, score 0..1, landmarks (5, 2), aligned (3, h, w) RGB."""

    box: np.ndarray
    score: float
    landmarks: np.ndarray
    aligned: np.ndarray


class FaceModel:
    """Detector, embedding network and gender-age network, each loaded when it is first used.

    args: an object with attributes, such as argparse gives, or None. options: the same by name; what neither says is
    as in DEFAULTS. TypeError: an unknown option.
    """

    def __init__(self, args=None, **options):
        unknown = sorted(set(options) - set(DEFAULTS))
        if unknown:
            raise TypeError(f"FaceModel has no option {unknown[0]}; there are {', '.join(DEFAULTS)}")
        given = {key: value for key, value in vars(args).items() if key in DEFAULTS} if args else {}
        self.args = SimpleNamespace(**{**DEFAULTS, **given, **options})
        self.threshold = self.args.threshold
        self.image_size = _height_width(self.args.image_size)
        self._loaded = {}

    def get_input(self, face_img):
        """The most probable face of a BGR image, aligned: (3, height, width) uint8 RGB; None without a face."""
        faces = self.get_faces([face_img])[0]
        return faces[0].aligned if faces else None

    def get_faces(self, images):
        """All faces of every BGR image, most probable first: a list of lists of Face.

        images: arrays that decode.to_bgr takes, of any sizes. UserError: an image too large for the detector.
        """
        images = [decode.to_bgr(image) for image in images]
        found = self.detector.detect_faces(images, det_type=self.args.det)
        return [self._faces(image, *result) if result else [] for image, result in zip(images, found)]

    def get_feature(self, aligned):
        """Embeddings of unit length: (d,) for one aligned face (3, height, width), (n, d) for n of them."""
        faces = np.asarray(aligned)
        batch = faces.reshape(-1, *faces.shape[-3:])
        views = (batch, batch[:, :, :, ::-1]) if self.args.flip else (batch,)
        features = roc.normalize(sum(self.backend.embed(view) for view in views))
        return features[0] if faces.ndim == 3 else features

    def get_ga(self, aligned):
        """Gender, 0 female and 1 male, and age in years of one aligned face, or two arrays (n,) for n of them.

        Of the network's 202 numbers two tell the gender, and 100 pairs whether the person is older than 0, 1, ... 99.
        """
        faces = np.asarray(aligned)
        values = self.gender_age.embed(faces.reshape(-1, *faces.shape[-3:]))
        gender = values[:, :2].argmax(axis=1)
        age = values[:, 2:].reshape(-1, 100, 2).argmax(axis=2).sum(axis=1)
        return (int(gender[0]), int(age[0])) if faces.ndim == 3 else (gender, age)

    @property
    def detector(self):
        """The MtcnnDetector."""
        return self._once("detector", self._make_detector)

    @property
    def backend(self):
        """The embedding network's Backend."""
        return self._once("model", self._make_backend)

    @property
    def gender_age(self):
        """The gender-age network's Backend."""
        return self._once("ga_model", self._make_gender_age)

    @property
    def _device(self):
        return f"gpu-or-cpu:{self.args.gpu}" if self.args.gpu >= 0 else "cpu"

    def _once(self, name, make):
        if name not in self._loaded:
            self._loaded[name] = make(name)
        return self._loaded[name]

    def _make_detector(self, _):
        if self.args.det not in DETECTION:
            raise UserError(f"det is 0, the whole detector, or 1, its last networks, not {self.args.det}")
        folder, contexts = self.args.detector or None, get_contexts(self._device)
        flush_in_threads(contexts)
        threshold = DETECTION[self.args.det]
        return MtcnnDetector(folder, threshold=threshold, accurate_landmark=bool(folder), ctx=contexts[0])

    def _make_backend(self, option):
        model = getattr(self.args, option)
        if not model:
            raise UserError(f"no network: give {option} as PREFIX,EPOCH or FILE.onnx")
        return backends.load(model, self.image_size, self.args.backend, self._device)

    def _make_gender_age(self, option):
        backend = self._make_backend(option)
        if backend.length != 202:
            raise UserError(f"{self.args.ga_model} gives {backend.length} numbers, not the 202 of a gender-age network")
        return backend

    def _faces(self, image, boxes, points):
        landmarks = points.reshape(-1, 2, 5).transpose(0, 2, 1)
        size = self.image_size if self.image_size == NARROW else FULL
        aligned = [
            fit(alignment.preprocess(image, landmark=five, image_size=size), self.image_size) for five in landmarks
        ]
        return [
            Face(box[:4], float(box[4]), five, network_input(face))
            for box, five, face in zip(boxes, landmarks, aligned)
        ]


def add_options(parser):
    """Give an argparse parser the options that FaceModel takes from it."""
    add = parser.add_argument
    add("--model", required=True, metavar="PREFIX,EPOCH|FILE.onnx", help="the network, for example ../model/r50,1")
    add("--image-size", default="112,112", metavar="H,W", help="the network's input, pixels (default: %(default)s)")
    add(
        "--backend",
        default="auto",
        choices=backends.CHOICES,
        help="what runs the network; auto: MXNet on a GPU, else the fastest installed one that agrees with MXNet",
    )
    add("--gpu", type=int, default=0, metavar="N", help="GPU number; -1, or no such GPU: CPU (default: %(default)s)")
    add(
        "--det",
        type=int,
        default=0,
        choices=(0, 1),
        help="0: look for faces everywhere; 1: images are crops of one face (default: %(default)s)",
    )
    add(
        "--detector",
        default="",
        metavar="DIR",
        help="folder with the original's det1 to det4 (default: the weights of the package mtcnn)",
    )


def _height_width(text):
    sides = text.split(",")
    if len(sides) != 2 or not all(side.strip().isdigit() and int(side) for side in sides):
        raise UserError(f"image size '{text}': write height,width in pixels, for example 112,112")
    return int(sides[0]), int(sides[1])
