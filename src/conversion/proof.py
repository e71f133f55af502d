"""Whether an ONNX file computes what an MXNet network computes: both run on the same images."""

import contextlib
import os
from typing import NamedTuple

import cv2
import numpy as np

from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError
from insightface_mx.conversion import file as onnx_file
from insightface_mx.photos.sources import aligned_images

LARGEST_DIFFERENCE = 1e-4  # max |a - b| / max |a|
SMALLEST_COSINE = 0.99999  # between two embeddings of the same image
FUSION = "MXNET_SUBGRAPH_BACKEND"
BATCHES = (1, 3)
MADE = 3  # images of each kind that are made here
FACE = (  # head, eyes and mouth: centre and half axes, x and y as parts of the image's sides
    (0.5, 0.5, 0.36, 0.48),
    (0.34, 0.45, 0.08, 0.04),
    (0.66, 0.45, 0.08, 0.04),
    (0.5, 0.82, 0.17, 0.05),
)
MOST_REAL = 30  # images that are taken from the user's


class Difference(NamedTuple):
    """How far apart two networks are at their worst: relative difference, and cosine of the two rows of an image."""

    relative: float
    cosine: float

    def __str__(self):
        return f"largest relative difference {self.relative:.2g}, smallest cosine {self.cosine:.7f}"

    @property
    def is_small(self):
        return self.relative <= LARGEST_DIFFERENCE and self.cosine >= SMALLEST_COSINE  # False where there is a NaN


def make_images(image_size, source=None):
    """Images (n, 3, height, width), float32 RGB of 0..255: noise, drawn faces, and real ones where there is a source.

    source: what `photos.sources.open_source` reads, of which at most MOST_REAL images are taken. n is a multiple of the
    batches. UserError: no image could be read there.
    """
    random = np.random.RandomState(0)
    noise = random.randint(0, 256, (MADE, *image_size, 3)).astype(np.uint8)
    synthetic = [*noise, *(drawn_face(random, image_size) for _ in range(MADE))]
    images = np.stack(synthetic).transpose(0, 3, 1, 2).astype(np.float32)
    if source:
        images = np.concatenate([images, aligned_images(source, image_size, MOST_REAL)])
    return images[: len(images) // max(BATCHES) * max(BATCHES)]


def drawn_face(random, image_size):
    """A rough face, height x width x 3, in colours and proportions of the RandomState's choice."""
    height, width = image_size
    image = np.full((height, width, 3), random.randint(0, 256, 3), np.uint8)
    shapes = [
        ((0.5, 0.5), (0.36, 0.48)),
        *(((x, 0.45), (0.08, 0.04)) for x in (0.34, 0.66)),
        ((0.5, 0.82), (0.17, 0.05)),
    ]
    for (x, y), (across, down) in shapes:
        x, y, across, down = (value * random.uniform(0.9, 1.1) for value in (x, y, across, down))
        centre, axes = (int(x * width), int(y * height)), (int(across * width), int(down * height))
        cv2.ellipse(image, centre, axes, 0, 0, 360, random.randint(0, 256, 3).tolist(), -1)
    return cv2.GaussianBlur(image, (0, 0), max(height, width) / 50)


def compare(expected, found):
    """The Difference between two lists of outputs, each (n, d)."""
    relative, cosines = [], []
    for outputs in zip(expected, found):
        one, other = (output.astype(np.float64) for output in outputs)
        relative.append(np.abs(one - other).max() / np.abs(one).max())
        lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
        cosines.append(((one * other).sum(axis=1) / lengths).min())
    return Difference(float(np.max(relative)), float(np.min(cosines)))


def check(name, run, symbol, params, images):
    """Compare `run`, a function from a batch of images to a list of outputs, with MXNet at every size of BATCHES.

    name: what an error calls it. params: dict name -> numpy array. images: (n, 3, height, width) of 0..255. Returns
    the Difference; UserError where it exceeds LARGEST_DIFFERENCE or SMALLEST_COSINE.
    """
    worst = Difference(0.0, 1.0)
    for batch in BATCHES:
        expected = _in_batches(mxnet_runner(symbol, params, (batch, *images.shape[1:])), images, batch)
        difference = compare(expected, _in_batches(run, images, batch))
        if not difference.is_small:
            raise UserError(
                f"{name} and the MXNet network disagree at batch {batch}: {difference} (allowed are "
                f"{LARGEST_DIFFERENCE:g} and {SMALLEST_COSINE}); nothing was written"
            )
        worst = Difference(max(worst.relative, difference.relative), min(worst.cosine, difference.cosine))
    return worst


def mxnet_runner(symbol, params, data_shape):
    """A function from a batch of images to the outputs of the symbol, bound on the CPU as it is.

    Nothing of it is rewritten for speed. params: dict name -> numpy array or NDArray.
    """
    with _without_fusion():
        executor = symbol.simple_bind(mx.cpu(), grad_req="null", data=data_shape)
    for name, array in {**executor.arg_dict, **executor.aux_dict}.items():
        if name != "data":
            array[:] = params[name]
    return lambda images: [output.asnumpy() for output in executor.forward(is_train=False, data=mx.nd.array(images))]


@contextlib.contextmanager
def _without_fusion():
    """Keep MXNet from joining operators as it binds: a convolution of two uses would come out wrong."""
    before = os.environ.get(FUSION)
    os.environ[FUSION] = "NONE"
    try:
        yield
    finally:
        del os.environ[FUSION]
        if before is not None:
            os.environ[FUSION] = before


def onnx_runner(path, mean=0.0, std=1.0):
    """A function from a batch of images to the outputs of an ONNX file that takes (images - mean) / std.

    A file that takes one image only is given one after the other.
    """
    session = onnx_file.session(path, path)
    data = session.get_inputs()[0]

    def run(images):
        return onnx_file.run(session, {data.name: (images - np.float32(mean)) / np.float32(std)}, path)

    return run if data.shape[0] != 1 else lambda images: _in_batches(run, images, 1)


def _in_batches(run, images, batch):
    chunks = [run(images[start : start + batch]) for start in range(0, len(images), batch)]
    return [np.concatenate(outputs) for outputs in zip(*chunks)]
