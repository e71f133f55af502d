"""Find faces and their five landmarks with MTCNN (Zhang et al., arXiv 1604.02878), as the original's MtcnnDetector.

A cascade of networks: P looks at every place of an image pyramid, R and then O look again at crops of what remains, and
O finds the landmarks. The networks see batches: P the images of one size together, R and O the crops of all images.
"""

from __future__ import annotations

import functools
from itertools import islice
from typing import Any, Iterable, Iterator, Sequence, Tuple

import numpy as np

from insightface_mx.base.compat import Context, mx, mxnet_lock
from insightface_mx.base.errors import UserError
from insightface_mx.base.quiet import quiet_mxnet
from insightface_mx.detection import boxes as mtcnn_boxes
from insightface_mx.detection import weights as mtcnn_weights
from insightface_mx.engine import cpu_rewrite, prelu_library
from insightface_mx.photos.decode import to_bgr
from insightface_mx.symbols.parts import layers

CROPS_AT_ONCE = 128  # in one pass of R, O or L
PIXELS_AT_ONCE = 1 << 20  # of several images in one pass of P
MAX_PIXELS = 1 << 24  # of one image in a pass of P, which then takes 2.5 GB
# An executor is stored for the next batch of the same shape, but not for large batches: it takes 120 bytes or more a
# pixel, and to make it again takes only a tenth of the pass.
MAX_STORED_PIXELS = 1 << 17
MAX_STORED_EXECUTORS = 32

Executor = Any  # of MXNet
Faces = Tuple[np.ndarray, np.ndarray]  # boxes (n, 5) and points (n, 10) of one image
# Between the networks, image_index (n,) says for every box (n, 5) which image it belongs to.
IndexedBoxes = Tuple[np.ndarray, np.ndarray]  # image_index and boxes


class MtcnnDetector:
    """Finds faces with MTCNN's networks; several threads may use one object, and its networks run one after the other.

    Args:
        model_folder: Holds the original's det1 to det3 (detN-symbol.json, detN-0001.params), and det4 for
            accurate_landmark. None: the weights of the PyPI package mtcnn, which are the same but lack det4.
        minsize: Side of the smallest face to look for, in pixels.
        threshold: The lowest probabilities of a face in P, R and O.
        factor: From one size of the image pyramid to the next, between 0 and 1.
        accurate_landmark: Whether the network L corrects every landmark by the patch around it.
        ctx: An MXNet context; None: the CPU.

    Raises:
        UserError: Weights are missing, or a value is out of range.
    """

    def __init__(
        self,
        model_folder: str | None = None,
        minsize: float = 20,
        threshold: Sequence[float] = (0.6, 0.7, 0.8),
        factor: float = 0.709,
        accurate_landmark: bool = False,
        ctx: Context | None = None,
    ) -> None:
        """Read the weights and bind the networks."""
        if not minsize > 0 or not 0 < factor < 1 or len(threshold) != 3:
            raise UserError(
                "MTCNN takes a minsize above 0, a factor between 0 and 1 and three thresholds, "
                f"not {minsize}, {factor} and {threshold}"
            )
        self.minsize, self.threshold, self.factor = minsize, threshold, factor
        names = "prol" if accurate_landmark else "pro"
        with mxnet_lock:
            self._networks = {name: _Network(name, model_folder, ctx or mx.cpu()) for name in names}

    def detect_face(self, img: np.ndarray, det_type: int = 0) -> Faces | None:
        """Find the faces in one image, as `detect_faces` does in several."""
        return self.detect_faces([img], det_type)[0]

    def detect_faces(self, images: Sequence[np.ndarray], det_type: int = 0) -> list[Faces | None]:
        """Find the faces in every image.

        Args:
            images: Arrays as decode.to_bgr takes them, of any sizes.
            det_type: 0 for all networks; 1 for O and L alone, where every image is the crop of one face.

        Returns:
            For every image None, or its faces, best first, as (boxes, points). boxes: (n, 5), x1, y1, x2, y2 in pixels
            and the probability. points: (n, 10), x1..x5 and y1..y5 in pixels: the eye on the image's left, the other
            eye, the nose, the left and the right corner of the mouth.

        Raises:
            ValueError: An array is no image, or det_type is neither 0 nor 1.
            UserError: An image is too large for P.
        """
        if det_type not in (0, 1):
            raise ValueError(f"det_type is 0 for all networks or 1 for the last ones alone, not {det_type!r}")
        images = [to_bgr(image) for image in images]
        if det_type == 0:
            image_index, boxes = self._rnet(images, *self._pnet(images))
        else:
            image_index, boxes = _image_boxes(images)
        image_index, boxes, points = self._onet(images, image_index, boxes)
        rows_of_images = [image_index == index for index in range(len(images))]
        return [(boxes[rows], points[rows]) if rows.any() else None for rows in rows_of_images]

    def is_too_large(self, height: float, width: float) -> bool:
        """Return whether an image of this size, in pixels, is too large to look for faces of minsize in it."""
        return height * width * (mtcnn_boxes.CELL / self.minsize) ** 2 > MAX_PIXELS

    def _pnet(self, images: Sequence[np.ndarray]) -> IndexedBoxes:
        """Propose squares with P."""
        found = [(np.empty(0, np.int64), np.empty((0, 9)))]
        for indices in _by_shape(images):
            for scale in self._scales(*images[indices[0]].shape[:2]):
                found += self._pnet_at_scale(scale, images, indices)
        image_indices, boxes = zip(*found)
        return _squares(np.concatenate(image_indices), np.concatenate(boxes))

    def _pnet_at_scale(self, scale: float, images: Sequence[np.ndarray], indices: list[int]) -> Iterator[IndexedBoxes]:
        """Yield P's boxes (n, 9) of each of these images, which have the same shape."""
        pixels = scale**2 * images[indices[0]][:, :, 0].size
        pictures = (mtcnn_boxes.scaled(images[index], scale) for index in indices)
        outputs = self._networks["p"].outputs(pictures, max(1, int(PIXELS_AT_ONCE / pixels)))
        for index, (regression, probability) in zip(indices, outputs):
            boxes = mtcnn_boxes.proposals(probability[1], regression, scale, self.threshold[0])
            boxes = boxes[mtcnn_boxes.nms(boxes, 0.5)]
            yield np.full(len(boxes), index), boxes

    def _scales(self, height: int, width: int) -> list[float]:
        """Return the scales for an image of this size; raise UserError if the first one is too large."""
        scales = mtcnn_boxes.scales(height, width, self.minsize, self.factor)
        if scales and self.is_too_large(height, width):
            enough = int(mtcnn_boxes.CELL * (height * width / MAX_PIXELS) ** 0.5) + 1
            raise UserError(
                f"an image of {width}x{height} pixels is too large to look for faces of {self.minsize} pixels: "
                f"make it smaller, or look for faces of {enough} or more (minsize)"
            )
        return scales

    def _rnet(self, images: Sequence[np.ndarray], image_index: np.ndarray, boxes: np.ndarray) -> IndexedBoxes:
        """Reject squares without a face, and move the others onto the faces, with R."""
        passed, (regression, probability) = self._run_on_crops("r", self.threshold[1], images, image_index, boxes)
        return _squares(image_index[passed], np.hstack([boxes[passed, :4], probability, regression]))

    def _onet(
        self, images: Sequence[np.ndarray], image_index: np.ndarray, boxes: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Find faces and landmarks (n, 10) with O, and with L if there is one."""
        passed, (fractions, regression, probability) = self._run_on_crops(
            "o", self.threshold[2], images, image_index, boxes
        )
        boxes = np.hstack([boxes[passed, :4], probability])
        points = mtcnn_boxes.landmark_places(boxes, fractions)
        boxes = mtcnn_boxes.calibrated(boxes, regression)
        image_index, boxes, points = _suppress(0.7, "min", image_index[passed], boxes, points)
        if "l" in self._networks:
            points = self._lnet(images, image_index, mtcnn_boxes.landmark_patches(boxes, points))
        return image_index, boxes, points

    def _lnet(self, images: Sequence[np.ndarray], image_index: np.ndarray, patches: np.ndarray) -> np.ndarray:
        """Place landmarks (n, 10) in their patches (n, 5, 4) with L, at most 0.35 of a patch from the centre."""
        network = self._networks["l"]
        pictures = (
            np.concatenate([mtcnn_boxes.crop(images[index], patch, network.side) for patch in five], axis=2)
            for index, five in zip(image_index, patches)
        )
        fractions = np.stack(network.stacked_outputs(pictures), axis=1)
        fractions[(np.abs(fractions - 0.5) > 0.35).any(axis=2)] = 0.5
        return mtcnn_boxes.patch_places(patches, fractions)

    def _run_on_crops(
        self, name: str, threshold: float, images: Sequence[np.ndarray], image_index: np.ndarray, boxes: np.ndarray
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Run R or O on the boxes: indices of those with a face, and the network's outputs for them."""
        network = self._networks[name]
        pictures = (mtcnn_boxes.crop(images[index], box, network.side) for index, box in zip(image_index, boxes))
        *outputs, probability = network.stacked_outputs(pictures)
        face = probability[:, 1:]
        passed = np.flatnonzero(face > threshold)
        return passed, [output[passed] for output in (*outputs, face)]


class _Network:
    """One network with its weights, bound once and reshaped for other batches."""

    def __init__(self, name: str, folder: str | None, ctx: Context) -> None:
        channels, self.side, _ = mtcnn_weights.NETWORKS[name].input_shape
        self._ctx, shape = ctx, (1, channels, self.side, self.side)
        symbol = mtcnn_weights.NETWORKS[name].symbol()
        args = {key: value.as_in_context(ctx) for key, value in mtcnn_weights.load(name, folder).items()}
        args["data"] = mx.nd.zeros(shape, ctx)
        # 'compiled' if possible, because oneDNN prepares 'layers' again for every new shape
        kind = "compiled" if ctx.device_type == "cpu" and not prelu_library.load_error() else None
        symbol = cpu_rewrite.rewrite(symbol, [ctx], {"data": shape}, kind)
        with quiet_mxnet():
            self._bound = symbol.bind(ctx, args, grad_req="null")
        self._stored = functools.lru_cache(MAX_STORED_EXECUTORS)(self._reshaped)

    def outputs(self, pictures: Iterable[np.ndarray], at_once: int = CROPS_AT_ONCE) -> Iterator[tuple[np.ndarray, ...]]:
        """Yield the network's outputs for each of the pictures (h, w, c), which have the same size.

        Passes take 1, 2, 4, 8... pictures, at most `at_once`, so that there are few shapes of batches.
        """
        pictures = iter(pictures)
        waiting = list(islice(pictures, at_once))
        while waiting:
            count = 1 << (len(waiting).bit_length() - 1)
            yield from zip(*self._forward(np.stack(waiting[:count])))
            waiting = waiting[count:] or list(islice(pictures, at_once))

    def stacked_outputs(self, pictures: Iterable[np.ndarray]) -> list[np.ndarray]:
        """Return the outputs for n pictures, arrays of n rows; n may be 0."""
        rows = list(self.outputs(pictures))
        if not rows:
            return [np.empty((0, *output.shape[1:]), np.float32) for output in self._bound.outputs]
        return [np.stack(column) for column in zip(*rows)]

    def _forward(self, pictures: np.ndarray) -> list[np.ndarray]:
        batch = layers.scale_pixels(pictures.transpose(0, 3, 1, 2).astype(np.float32))
        count, _, height, width = batch.shape
        with mxnet_lock:
            if count * height * width <= MAX_STORED_PIXELS:
                executor = self._stored(batch.shape)
            else:
                executor = self._reshaped(batch.shape)
            outputs = executor.forward(is_train=False, data=mx.nd.array(batch, self._ctx))
            return [output.asnumpy() for output in outputs]

    def _reshaped(self, shape: tuple[int, ...]) -> Executor:
        return self._bound.reshape(data=shape, allow_up_sizing=True)


def _by_shape(images: Sequence[np.ndarray]) -> Iterable[list[int]]:
    """Return lists of the indices of images with the same shape."""
    indices: dict[tuple[int, ...], list[int]] = {}
    for index, image in enumerate(images):
        indices.setdefault(image.shape, []).append(index)
    return indices.values()


def _image_boxes(images: Sequence[np.ndarray]) -> IndexedBoxes:
    """Return one box for each image, with the original's ends: one pixel beyond the image."""
    boxes = [(0, 0, image.shape[1], image.shape[0], 0.9) for image in images]
    return np.arange(len(images)), np.array(boxes, np.float64).reshape(-1, 5)


def _squares(image_index: np.ndarray, boxes: np.ndarray) -> IndexedBoxes:
    """Suppress boxes (n, 9), move the rest by their last four columns, and grow them to squares."""
    image_index, boxes = _suppress(0.7, "union", image_index, boxes)
    return image_index, mtcnn_boxes.squared(mtcnn_boxes.calibrated(boxes, boxes[:, 5:]))


def _suppress(
    threshold: float, mode: str, image_index: np.ndarray, boxes: np.ndarray, *more: np.ndarray
) -> list[np.ndarray]:
    """Return the rows of image_index, boxes and more that non-maximum suppression keeps within every image."""
    groups = [np.flatnonzero(image_index == index) for index in np.unique(image_index)]
    kept = [group[mtcnn_boxes.nms(boxes[group], threshold, mode)] for group in groups]
    rows = np.concatenate([np.empty(0, np.int64), *kept])
    return [array[rows] for array in (image_index, boxes, *more)]
