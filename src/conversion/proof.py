"""Prove that an ONNX file or state dict computes what an MXNet network computes: both run on the same images."""

from __future__ import annotations

import contextlib
import os
from typing import Iterator, Mapping, NamedTuple, Sequence

import cv2
import numpy as np

from insightface_mx.base.compat import Params, Symbol, mx
from insightface_mx.base.errors import UserError
from insightface_mx.base.quiet import quiet_mxnet
from insightface_mx.cli.types import Size
from insightface_mx.onnx_files.runtime import Model, Run, runner
from insightface_mx.photos.sources import aligned_images

LARGEST_DIFFERENCE = 1e-4  # max |a - b| / max |a|
SMALLEST_COSINE = 0.99999  # between two embeddings of the same image
BATCHES = (1, 3)
SYNTHETIC_PER_KIND = 3  # images of noise, and images of drawn faces
MAX_REAL_IMAGES = 30
FUSION_VARIABLE = "MXNET_SUBGRAPH_BACKEND"


class Difference(NamedTuple):
    """The largest difference between two networks: relative difference, and cosine of the two outputs of an image."""

    relative: float
    cosine: float

    def __str__(self) -> str:
        """Return both numbers in words."""
        return f"largest relative difference {self.relative:.2g}, smallest cosine {self.cosine:.7f}"

    @property
    def is_small(self) -> bool:
        """Whether the networks agree; False where there is a NaN."""
        return self.relative <= LARGEST_DIFFERENCE and self.cosine >= SMALLEST_COSINE


def make_images(image_size: Size, source: str | None = None) -> np.ndarray:
    """Return images for a proof: noise, drawn faces and, where there is a source, real ones.

    Args:
        image_size: Height and width.
        source: Real images as `photos.sources.open_source` reads them, of which at most MAX_REAL_IMAGES are taken.

    Returns:
        (n, 3, height, width) float32, RGB of 0..255; n is a multiple of the batches.

    Raises:
        UserError: No image could be read there.
    """
    random = np.random.RandomState(0)
    noise = random.randint(0, 256, (SYNTHETIC_PER_KIND, *image_size, 3)).astype(np.uint8)
    synthetic = [*noise, *(drawn_face(random, image_size) for _ in range(SYNTHETIC_PER_KIND))]
    images = np.stack(synthetic).transpose(0, 3, 1, 2).astype(np.float32)
    if source:
        images = np.concatenate([images, aligned_images(source, image_size, MAX_REAL_IMAGES)])
    return images[: len(images) // max(BATCHES) * max(BATCHES)]


def drawn_face(random: np.random.RandomState, image_size: Size) -> np.ndarray:
    """Return a rough face, (height, width, 3) uint8, in random colours and proportions."""
    height, width = image_size
    image = np.full((height, width, 3), random.randint(0, 256, 3), np.uint8)
    shapes = [  # head, eyes and mouth: centre and half axes, x and y as fractions of the image's sides
        (0.5, 0.5, 0.36, 0.48),
        (0.34, 0.45, 0.08, 0.04),
        (0.66, 0.45, 0.08, 0.04),
        (0.5, 0.82, 0.17, 0.05),
    ]
    for shape in shapes:
        x, y, across, down = (value * random.uniform(0.9, 1.1) for value in shape)
        centre, axes = (int(x * width), int(y * height)), (int(across * width), int(down * height))
        cv2.ellipse(image, centre, axes, 0, 0, 360, random.randint(0, 256, 3).tolist(), -1)
    return cv2.GaussianBlur(image, (0, 0), max(height, width) / 50)


def compare(expected: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> Difference:
    """Return the difference between two lists of outputs, (n, d) each."""
    relative, cosines = [], []
    for outputs in zip(expected, found):
        one, other = (output.astype(np.float64) for output in outputs)
        relative.append(np.abs(one - other).max() / np.abs(one).max())
        lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
        cosines.append(((one * other).sum(axis=1) / lengths).min())
    return Difference(float(np.max(relative)), float(np.min(cosines)))


def check_equal(
    name: str, run: Run, symbol: Symbol, params: Mapping[str, np.ndarray], images: np.ndarray
) -> Difference:
    """Compare a network with MXNet at every batch size of BATCHES.

    Args:
        name: What UserError calls the network.
        run: Computes its outputs.
        symbol: The network in MXNet.
        params: Its parameters, name -> array.
        images: (n, 3, height, width), RGB of 0..255.

    Raises:
        UserError: The difference exceeds LARGEST_DIFFERENCE or SMALLEST_COSINE.
    """
    worst = Difference(0.0, 1.0)
    for batch in BATCHES:
        expected = _in_batches(mxnet_runner(symbol, params, (batch, *images.shape[1:])), images, batch)
        difference = compare(expected, _in_batches(run, images, batch))
        if not difference.is_small:
            raise UserError(
                f"{name} and the MXNet network disagree at batch {batch}: {difference} (the limits are "
                f"{LARGEST_DIFFERENCE:g} and {SMALLEST_COSINE}); nothing was written"
            )
        worst = Difference(max(worst.relative, difference.relative), min(worst.cosine, difference.cosine))
    return worst


def mxnet_runner(symbol: Symbol, params: Mapping[str, np.ndarray] | Params, data_shape: tuple[int, ...]) -> Run:
    """Return a function that computes a symbol's outputs on the CPU, without any rewriting for speed.

    Args:
        symbol: Its input is `data`.
        params: Name -> numpy array or NDArray.
        data_shape: Of a batch, n x 3 x height x width.
    """
    with quiet_mxnet(), _without_fusion():
        executor = symbol.simple_bind(mx.cpu(), grad_req="null", data=data_shape)
    for name, array in {**executor.arg_dict, **executor.aux_dict}.items():
        if name != "data":
            array[:] = params[name]
    return lambda images: [output.asnumpy() for output in executor.forward(is_train=False, data=mx.nd.array(images))]


@contextlib.contextmanager
def _without_fusion() -> Iterator[None]:
    """Disable MXNet's operator fusion while binding: it gives wrong results for a convolution with two consumers."""
    before = os.environ.get(FUSION_VARIABLE)
    os.environ[FUSION_VARIABLE] = "NONE"
    try:
        yield
    finally:
        del os.environ[FUSION_VARIABLE]
        if before is not None:
            os.environ[FUSION_VARIABLE] = before


def onnx_runner(model: Model, mean: float = 0.0, std: float = 1.0) -> Run:
    """Return a function that computes an ONNX file's outputs, (n, d), for images of 0..255, in ONNX Runtime.

    Args:
        model: A file that takes (images - mean) / std.
        mean: In units of a pixel.
        std: In units of a pixel.

    Raises:
        UserError: ONNX Runtime cannot run the file, or is not installed.
    """
    run = runner(model)

    def run_scaled(images: np.ndarray) -> list[np.ndarray]:
        outputs = run((images - np.float32(mean)) / np.float32(std))
        return [output.reshape(len(images), -1) for output in outputs]

    return run_scaled


def _in_batches(run: Run, images: np.ndarray, batch: int) -> list[np.ndarray]:
    chunks = [run(images[start : start + batch]) for start in range(0, len(images), batch)]
    return [np.concatenate(outputs) for outputs in zip(*chunks)]
