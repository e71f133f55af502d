"""Faces and their five landmarks by MTCNN (Zhang et al., arXiv 1604.02878), as the original's MtcnnDetector gives them.

A cascade: P looks at every place of an image pyramid, R and then O look again at crops of what remains, and O finds the
landmarks. The networks see batches: P the images of one size together, R and O the crops of all images.
"""

import functools
from itertools import islice

import numpy as np

from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError
from insightface_mx.detection import boxes as mtcnn_boxes
from insightface_mx.detection import weights as mtcnn_weights
from insightface_mx.engine import cpu_rewrite, prelu_library
from insightface_mx.photos.decode import to_bgr
from insightface_mx.symbols import layers

CROPS_AT_ONCE = 128  # in one pass of R, O or L
PIXELS_AT_ONCE = 1 << 20  # of several images in one pass of P
MAX_PIXELS = 1 << 24  # of one image in a pass of P, which then takes 2.5 GB
# A batch's executor is kept for the next of its shape, but not for larger batches: it takes 120 bytes and more a pixel,
# and making it anew is but a tenth of their pass.
KEPT_PIXELS = 1 << 17
KEPT_EXECUTORS = 32


class MtcnnDetector:
    """MTCNN's networks with their weights, for one thread at a time.

    model_folder: holds the original's det1 to det3 (detN-symbol.json, detN-0001.params), and det4 for
    accurate_landmark, which places every landmark anew by what is around it; None: the weights of the PyPI package
    mtcnn, which are the same but lack det4. minsize: pixels, the smallest face that is looked for. threshold: the
    probability to be above in P, R and O. factor: from one size of the pyramid to the next. ctx: an MXNet context
    (None: the CPU). Raises UserError for weights that are missing and for values that make no sense.
    """

    def __init__(
        self,
        model_folder=None,
        minsize=20,
        threshold=(0.6, 0.7, 0.8),
        factor=0.709,
        accurate_landmark=False,
        ctx=None,
    ):
        if not minsize > 0 or not 0 < factor < 1 or len(threshold) != 3:
            raise UserError(
                "MTCNN takes a minsize above 0, a factor between 0 and 1 and three thresholds, "
                f"not {minsize}, {factor} and {threshold}"
            )
        self.minsize, self.threshold, self.factor = minsize, threshold, factor
        names = "prol" if accurate_landmark else "pro"
        self._networks = {name: _Network(name, model_folder, ctx or mx.cpu()) for name in names}

    def detect_face(self, img, det_type=0):
        """Faces in one image; see `detect_faces`."""
        return self.detect_faces([img], det_type)[0]

    def detect_faces(self, images, det_type=0):
        """Faces in every image, best first: a list of (boxes, points), or None for an image without a face.

        images: arrays that decode.to_bgr takes, of any sizes. det_type: 0 the whole cascade; 1 O and L alone, for
        images that are crops of one face. boxes: (n, 5), x1, y1, x2, y2 in pixels and the probability. points: (n, 10),
        x1..x5 and y1..y5 of the eye on the image's left, the right one, nose, left and right corner of the mouth.
        Raises ValueError for what is no image, UserError for an image too large for P.
        """
        if det_type not in (0, 1):
            raise ValueError(f"det_type is 0, the whole cascade, or 1, its last networks, not {det_type!r}")
        images = [to_bgr(image) for image in images]
        owner, boxes = self._refined(images, *self._proposed(images)) if det_type == 0 else _whole(images)
        owner, boxes, points = self._located(images, owner, boxes)
        mine = [owner == number for number in range(len(images))]
        return [(boxes[rows], points[rows]) if rows.any() else None for rows in mine]

    # Between the networks every box (n, 5) has its image's number in `owner` (n,).

    def _proposed(self, images):
        """P: squares where a face may be."""
        found = [(np.empty(0, np.int64), np.empty((0, 9)))]
        for numbers in _by_shape(images):
            for scale in self._scales(*images[numbers[0]].shape[:2]):
                found += self._proposed_at(scale, images, numbers)
        return _squares(*(np.concatenate(parts) for parts in zip(*found)))

    def _proposed_at(self, scale, images, numbers):
        pixels = scale**2 * images[numbers[0]][:, :, 0].size
        pictures = (mtcnn_boxes.scaled(images[number], scale) for number in numbers)
        outputs = self._networks["p"].outputs(pictures, max(1, int(PIXELS_AT_ONCE / pixels)))
        for number, (regression, probability) in zip(numbers, outputs):
            boxes = mtcnn_boxes.proposals(probability[1], regression, scale, self.threshold[0])
            boxes = boxes[mtcnn_boxes.nms(boxes, 0.5)]
            yield np.full(len(boxes), number), boxes

    def _scales(self, height, width):
        scales = mtcnn_boxes.scales(height, width, self.minsize, self.factor)
        if scales and height * width * scales[0] ** 2 > MAX_PIXELS:
            enough = int(mtcnn_boxes.CELL * (height * width / MAX_PIXELS) ** 0.5) + 1
            raise UserError(
                f"an image of {width}x{height} pixels is too large to look for faces of {self.minsize} pixels: "
                f"make it smaller, or look for faces of {enough} or more (minsize)"
            )
        return scales

    def _refined(self, images, owner, boxes):
        """R: the squares that it takes for faces, moved onto them."""
        passed, (regression, probability) = self._judged("r", self.threshold[1], images, owner, boxes)
        return _squares(owner[passed], np.hstack([boxes[passed, :4], probability, regression]))

    def _located(self, images, owner, boxes):
        """O, and L where it is wanted: faces and their landmarks (n, 10)."""
        passed, (shares, regression, probability) = self._judged("o", self.threshold[2], images, owner, boxes)
        boxes = np.hstack([boxes[passed, :4], probability])
        points = mtcnn_boxes.landmark_places(boxes, shares)
        boxes = mtcnn_boxes.calibrated(boxes, regression)
        owner, boxes, points = _suppressed(0.7, "min", owner[passed], boxes, points)
        if "l" in self._networks:
            points = self._relocated(images, owner, mtcnn_boxes.landmark_patches(boxes, points))
        return owner, boxes, points

    def _relocated(self, images, owner, patches):
        """L: landmarks moved away from the centres of their patches (n, 5, 4), by 0.35 of a patch at the most."""
        network = self._networks["l"]
        pictures = (
            np.concatenate([mtcnn_boxes.crop(images[number], patch, network.side) for patch in five], axis=2)
            for number, five in zip(owner, patches)
        )
        shares = np.stack(network.stacked_outputs(pictures), axis=1)
        shares[(np.abs(shares - 0.5) > 0.35).any(axis=2)] = 0.5
        return mtcnn_boxes.patch_places(patches, shares)

    def _judged(self, name, threshold, images, owner, boxes):
        """Numbers of the boxes that R or O takes for faces, and the network's outputs for them."""
        network = self._networks[name]
        pictures = (mtcnn_boxes.crop(images[number], box, network.side) for number, box in zip(owner, boxes))
        *outputs, probability = network.stacked_outputs(pictures)
        face = probability[:, 1:]
        passed = np.flatnonzero(face > threshold)
        return passed, [output[passed] for output in (*outputs, face)]


class _Network:
    """A network with its weights, bound once, and reshaped for other batches."""

    def __init__(self, name, folder, ctx):
        channels, self.side, _ = mtcnn_weights.NETWORKS[name].input
        self._ctx, shape = ctx, (1, channels, self.side, self.side)
        symbol = mtcnn_weights.NETWORKS[name].symbol()
        args = {key: value.as_in_context(ctx) for key, value in mtcnn_weights.load(name, folder).items()}
        args["data"] = mx.nd.zeros(shape, ctx)
        # not layers where it can be helped: oneDNN prepares them for every new shape
        kind = "compiled" if ctx.device_type == "cpu" and not prelu_library.load_error() else None
        self._bound = cpu_rewrite.rewrite(symbol, [ctx], {"data": shape}, kind).bind(ctx, args, grad_req="null")
        self._kept = functools.lru_cache(KEPT_EXECUTORS)(self._reshaped)

    def outputs(self, pictures, at_once=CROPS_AT_ONCE):
        """For each of an iterable of pictures (h, w, c) of one size the network's outputs, a tuple of arrays.

        Passes take 1, 2, 4, 8... pictures up to `at_once`, so that few shapes of batches come up.
        """
        pictures = iter(pictures)
        waiting = list(islice(pictures, at_once))
        while waiting:
            count = 1 << (len(waiting).bit_length() - 1)
            yield from zip(*self._forward(np.stack(waiting[:count])))
            waiting = waiting[count:] or list(islice(pictures, at_once))

    def stacked_outputs(self, pictures):
        """The outputs for n pictures, n may be 0: a list of arrays of n rows."""
        rows = list(self.outputs(pictures))
        if not rows:
            return [np.empty((0, *output.shape[1:]), np.float32) for output in self._bound.outputs]
        return [np.stack(column) for column in zip(*rows)]

    def _forward(self, pictures):
        batch = layers.scale_pixels(pictures.transpose(0, 3, 1, 2).astype(np.float32))
        count, _, height, width = batch.shape
        executor = (self._kept if count * height * width <= KEPT_PIXELS else self._reshaped)(batch.shape)
        outputs = executor.forward(is_train=False, data=mx.nd.array(batch, self._ctx))
        return [output.asnumpy() for output in outputs]

    def _reshaped(self, shape):
        return self._bound.reshape(data=shape, allow_up_sizing=True)


def _by_shape(images):
    """Lists of the numbers of images that have the same shape."""
    numbers = {}
    for number, image in enumerate(images):
        numbers.setdefault(image.shape, []).append(number)
    return numbers.values()


def _whole(images):
    """Every image as a box, with the ends that the original gave it: a pixel more than the image has."""
    boxes = [(0, 0, image.shape[1], image.shape[0], 0.9) for image in images]
    return np.arange(len(images)), np.array(boxes, np.float64).reshape(-1, 5)


def _squares(owner, boxes):
    """What the next network looks at: the best of the boxes (n, 9), moved by their last four columns, as squares."""
    owner, boxes = _suppressed(0.7, "union", owner, boxes)
    return owner, mtcnn_boxes.squared(mtcnn_boxes.calibrated(boxes, boxes[:, 5:]))


def _suppressed(threshold, mode, owner, boxes, *more):
    """Owners, boxes and more rows of those that non-maximum suppression within every image leaves."""
    groups = [np.flatnonzero(owner == number) for number in np.unique(owner)]
    kept = [group[mtcnn_boxes.nms(boxes[group], threshold, mode)] for group in groups]
    kept = np.concatenate([np.empty(0, np.int64), *kept])
    return [rows[kept] for rows in (owner, boxes, *more)]
