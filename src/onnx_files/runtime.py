"""Run ONNX files in ONNX Runtime, after a check of what they compute, and in the batches that they take."""

from __future__ import annotations

import contextlib
import logging
from typing import Callable, Iterator, List, NamedTuple

import numpy as np

from insightface_mx.base.errors import UserError, shorten
from insightface_mx.cli.types import Size
from insightface_mx.onnx_files.file import PRODUCER, require_onnx
from insightface_mx.onnx_files.graph import DATA
from insightface_mx.onnx_files.safe_onnx import describe_input, read_model
from insightface_mx.onnx_files.sizes import read_checked

_ERRORS_ONLY = 3  # severity of ONNX Runtime's log

Run = Callable[
    [np.ndarray], List[np.ndarray]
]  # from a batch of images (n, 3, height, width) to the outputs, (n, ...) each


class Model(NamedTuple):
    """An ONNX file that may run: what a runtime loads, and what the file says of itself.

    path: what UserError calls it. source: the path, or the content where it is not as in the file. producer: the
    program that wrote it. input: the tensor of the images. batch: images that it takes at a time; None: any number.
    image_size: height and width; None where they are open.
    """

    path: str
    source: str | bytes
    producer: str
    input: str
    batch: int | None
    image_size: Size | None


def own_model(path: str, image_size: Size) -> Model:
    """Return a file that this package wrote."""
    return Model(path, path, PRODUCER, DATA, None, image_size)


def open_model(path: str, image_size: Size | None = None) -> Model:
    """Check a file of unknown origin, so that it may run.

    Args:
        path: A file with one input.
        image_size: Of the images, where the file leaves it open; None: USUAL_SIZE.

    Raises:
        UserError: No ONNX file or a damaged one, no face network, or one that takes too much memory or time; onnx or
            onnxruntime is not installed.
    """
    require_onnx()
    model, images = read_checked(path, image_size)
    if model.has_other_floats:
        logging.warning("%s has floats of 16 or 64 bits: it is computed in float32", path)
    source = model.proto.SerializeToString() if model.is_changed else path
    return Model(path, source, model.proto.producer_name, images.name, images.batch, images.size)


def image_size_of(path: str) -> Size | None:
    """Return the images' height and width that a file says; None where they are open. UserError: see `open_model`."""
    require_onnx()
    return describe_input(read_model(path).proto, path).size


def runner(model: Model) -> Run:
    """Return a function that computes a file's outputs in ONNX Runtime on the CPU.

    Its option to flush denormal numbers stays off: it would change the calling thread, numpy included.

    Raises:
        UserError: ONNX Runtime cannot run the file, or is not installed.
    """
    require_onnx()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    with _runtime_errors(model.path):
        session = onnxruntime.InferenceSession(model.source, options, providers=["CPUExecutionProvider"])

    def run(images: np.ndarray) -> list[np.ndarray]:
        with _runtime_errors(model.path):
            return session.run(None, {model.input: images})

    return in_batches_of(model, run)


def in_batches_of(model: Model, run: Run) -> Run:
    """Return a function that takes any number of images.

    Args:
        model: The file.
        run: Computes one batch of as many images as the file takes.

    Raises:
        UserError: By the function, where the outputs are not one for each image.
    """

    def run_once(images: np.ndarray) -> list[np.ndarray]:
        outputs = run(images)
        if any(output.shape[:1] != images.shape[:1] for output in outputs):
            shapes = ", ".join(str(output.shape) for output in outputs)
            raise UserError(f"{model.path} gives {shapes} for {len(images)} images: it must give a vector for each")
        return outputs

    def run_padded(images: np.ndarray) -> list[np.ndarray]:
        size = model.batch or len(images)
        parts = []
        for start in range(0, len(images), size):
            part = images[start : start + size]
            padding = np.repeat(part[:1], size - len(part), axis=0)
            outputs = run_once(np.concatenate([part, padding]) if len(padding) else part)
            parts.append([output[: len(part)] for output in outputs])
        return [np.concatenate(outputs) for outputs in zip(*parts)]

    return run_padded if model.batch else run_once


@contextlib.contextmanager
def _runtime_errors(name: str) -> Iterator[None]:
    """Turn ONNX Runtime's errors into UserErrors."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    known = (state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf, state.NoSuchFile)
    try:
        yield
    except (*known, state.NotImplemented, state.RuntimeException) as error:
        raise UserError(f"ONNX Runtime cannot run {name}: {shorten(str(error).splitlines()[0], 200)}") from error
