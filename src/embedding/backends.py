"""Run a network in MXNet, ONNX Runtime or OpenVINO behind one interface.

    backend = load("../model/r50,1")
    embeddings = backend.embed(images)

MXNet is the reference. The others run a checkpoint as an ONNX file, which module `exported` writes on first use.

Several threads may use one back end: MXNet runs their batches one after the other, the others run them side by side.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
from typing import Any, Callable, Iterator

import numpy as np

from insightface_mx.base.compat import Context, mx, mxnet_lock
from insightface_mx.base.errors import UserError, pip_command, shorten
from insightface_mx.cli.types import USUAL_SIZE, Size, size_text
from insightface_mx.conversion import proof
from insightface_mx.embedding.choices import CHOICES, PACKAGES
from insightface_mx.embedding.exported import Unfit, export_once
from insightface_mx.engine import BATCH_SIZE, face_network
from insightface_mx.engine.denormals import flush_in_threads
from insightface_mx.engine.devices import get_contexts
from insightface_mx.engine.network import embed_in_batches, load_model
from insightface_mx.engine.network_input import USUAL_INPUT, NetworkInput
from insightface_mx.formats import checkpoint
from insightface_mx.onnx_files import file as onnx_file
from insightface_mx.onnx_files import runtime

INT8_COSINE = 0.98  # between two runtimes' int8 embeddings of an image: they round at different places

Run = Callable[[np.ndarray], np.ndarray]  # from float32 images (b, 3, height, width) to embeddings (b, length)


class Backend:
    """A network that is ready to embed images, for any number of threads.

    Attributes:
        name: A key of PACKAGES.
        image_size: Height and width of an image in pixels.
        length: Of an embedding.
        run: Computes one batch as it is: from contiguous float32 images (b, 3, height, width), RGB of 0..255, to
            embeddings (b, length).
    """

    def __init__(self, name: str, run: Run, image_size: Size) -> None:
        """Run the network once, to know the length of an embedding."""
        self.name, self.image_size, self.run = name, image_size, run
        self.length: int = run(np.zeros((1, 3, *image_size), np.float32)).shape[1]

    def embed(self, images: np.ndarray, batch_size: int = BATCH_SIZE) -> np.ndarray:
        """Compute embeddings; an image that occurs several times is computed once.

        Args:
            images: (n, 3, height, width), RGB of 0..255.
            batch_size: Images in one pass.

        Returns:
            (n, length) float32, not scaled to unit length.

        Raises:
            ValueError: The images have another shape.
        """
        images = np.asarray(images)
        if images.ndim != 4 or images.shape[1:] != (3, *self.image_size):
            raise ValueError(f"images must be (n, 3, {self.image_size[0]}, {self.image_size[1]}), not {images.shape}")
        if not len(images):
            return np.empty((0, self.length), np.float32)
        return embed_in_batches(self.run, images, batch_size)


def load(
    model: str,
    image_size: Size | None = None,
    name: str = "auto",
    device: str = "cpu",
    network_input: NetworkInput = USUAL_INPUT,
) -> Backend:
    """Load a network into a back end.

    Args:
        model: A checkpoint 'PREFIX,EPOCH', or an ONNX file. One that was not written here needs a scaling of pixels.
        image_size: Height and width in pixels; None: see `image_size_of`.
        name: One of CHOICES. 'auto' is MXNet on a GPU, and on a CPU the fastest back end that is installed and agrees
            with the reference; a warning says why one was skipped.
        device: Of MXNet, as `devices.get_contexts` takes it.
        network_input: How the graph takes images, where it is not from here; the back end takes RGB of 0..255.

    Raises:
        UserError: A file is missing, damaged or does not fit, or a package is not installed.
        Unfit: The back end that was chosen disagrees with the reference.
    """
    with mxnet_lock:
        contexts = get_contexts(device)
        flush_in_threads(contexts)
        *first_choices, last = _candidates(name, model, contexts[0].device_type == "gpu")
        size = image_size or image_size_of(model, network_input)
        reasons: set[str] = set()
        for candidate in first_choices:
            backend = _load_or_warn(candidate, model, size, contexts, network_input, reasons)
            if backend is not None:
                return backend
        return _load(last, model, size, contexts, network_input)


def installed(name: str) -> bool:
    """Return whether all packages of a back end are there."""
    return all(importlib.util.find_spec(package) for package in PACKAGES[name])


def image_size_of(model: str, network_input: NetworkInput = USUAL_INPUT) -> Size:
    """Return the height and width that a model says: an ONNX file, or a checkpoint as `face_network.load` reads it."""
    if model.endswith(".onnx"):
        return runtime.image_size_of(model) or USUAL_SIZE
    prefix, epoch = checkpoint.parse(model)
    return face_network.image_size_of(prefix, epoch, network_input)


def onnx_backend(name: str, path: str, image_size: Size) -> Backend:
    """Load an ONNX file of this package into a back end without any proof.

    Raises:
        Unfit: The back end cannot run the file.
    """
    try:
        return _of_model(name, runtime.own_model(path, image_size), image_size)
    except UserError as error:
        raise Unfit(str(error)) from error


def _of_model(name: str, model: runtime.Model, image_size: Size, network_input: NetworkInput = USUAL_INPUT) -> Backend:
    run = _openvino(model) if name == "openvino" else runtime.runner(model)
    return Backend(name, lambda images: run(network_input.scaled(images))[0].reshape(len(images), -1), image_size)


def _candidates(name: str, model: str, on_gpu: bool) -> list[str]:
    """Return the installed back ends to try, in this order."""
    if name not in CHOICES:
        raise UserError(f"backend {name} is not known: choose one of {', '.join(CHOICES)}")
    is_file = model.endswith(".onnx")
    if is_file and name == "mxnet":
        raise UserError(f"MXNet does not run {model}: choose another backend, or make it a checkpoint (import_onnx.py)")
    if name == "auto" and on_gpu and not is_file:
        return ["mxnet"]
    wanted = [name] if name != "auto" else [key for key in PACKAGES if not is_file or key != "mxnet"]
    found = [key for key in wanted if installed(key)]
    if not found:
        packages = " and ".join(PACKAGES[wanted[-1]])
        raise UserError(f"backend {wanted[-1]} needs {packages}: {pip_command('deploy')}")
    return found


def _load(name: str, model: str, image_size: Size, contexts: list[Context], network_input: NetworkInput) -> Backend:
    if name == "mxnet":
        return Backend(name, _mxnet(model, image_size, contexts, network_input), image_size)
    if model.endswith(".onnx"):
        return _of_file(name, model, image_size, network_input)
    exported = export_once(model, image_size, network_input)
    return _proven(onnx_backend(name, exported.path, image_size), exported.expected, is_int8=False)


def _load_or_warn(
    name: str,
    model: str,
    image_size: Size,
    contexts: list[Context],
    network_input: NetworkInput,
    reasons: set[str],
) -> Backend | None:
    """Load a back end; None where it is unfit, after a warning if the reason is not one of `reasons` yet."""
    try:
        return _load(name, model, image_size, contexts, network_input)
    except Unfit as error:
        reason = str(error)
        if reason not in reasons:
            logging.warning("skipped a faster back end: %s", reason)
        reasons.add(reason)
        return None


def _of_file(name: str, path: str, image_size: Size, network_input: NetworkInput) -> Backend:
    """Load an ONNX file, proven against ONNX Runtime. Only files with a known scaling of pixels are taken."""
    model = runtime.open_model(path, image_size)
    is_own = model.producer in (onnx_file.PRODUCER, onnx_file.INT8_PRODUCER)
    if network_input.embedding_node or (is_own and network_input != USUAL_INPUT):
        options = "--embedding-node, --pixel-mean and --pixel-scale" if is_own else "--embedding-node"
        raise UserError(f"{path} says itself what its output is and how it scales pixels: leave out {options}")
    if not is_own and not (network_input.pixel_mean and network_input.pixel_scale):
        raise UserError(
            f"{path} was not written here, so its scaling of pixels is unknown: give --pixel-mean and --pixel-scale, "
            "127.5 and 0.0078431 (1/127.5) if insightface trained it, or try import_onnx.py"
        )
    if model.image_size not in (None, tuple(image_size)):
        size = size_text(model.image_size or USUAL_SIZE)
        raise UserError(f"{path} takes images of {size}: give --image-size {size}")
    expected = proof.onnx_runner(model)(network_input.scaled(proof.make_images(image_size)))[0]
    backend = _of_model(name, model, image_size, network_input)
    return _proven(backend, expected, model.producer == onnx_file.INT8_PRODUCER)


def _proven(backend: Backend, expected: np.ndarray, is_int8: bool) -> Backend:
    """Return the back end, if it computes what is expected for the images of `proof.make_images`."""
    difference = proof.compare([expected], [backend.embed(proof.make_images(backend.image_size))])
    agrees = difference.cosine >= INT8_COSINE if is_int8 else difference.is_small
    if not agrees:
        raise Unfit(f"{backend.name} disagrees with the reference: {difference}")
    return backend


def _mxnet(model: str, image_size: Size, contexts: list[Context], network_input: NetworkInput) -> Run:
    prefix, epoch = checkpoint.parse(model)
    bound = load_model(prefix, epoch, contexts, len(contexts), image_size, network_input)

    def run(images: np.ndarray) -> np.ndarray:
        padding = np.repeat(images[:1], -len(images) % len(contexts), axis=0)  # each context gets as many images
        with mxnet_lock:
            data = mx.nd.array(np.concatenate([images, padding]) if len(padding) else images)
            bound.forward(mx.io.DataBatch([data]), is_train=False)  # rebinds for another batch size
            return bound.get_outputs()[0].asnumpy()[: len(images)]

    return run


def _openvino(model: runtime.Model) -> runtime.Run:
    import openvino

    # Otherwise OpenVINO computes in bfloat16 if the CPU can, which loses too much.
    precision = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    with _openvino_errors(model):
        core = openvino.Core()
        compiled = core.compile_model(core.read_model(model.source), "CPU", precision)
    idle: list[Any] = []  # infer requests, of which each runs one batch at a time

    def run(images: np.ndarray) -> list[np.ndarray]:
        try:
            request = idle.pop()
        except IndexError:  # as many as there are threads at work
            request = compiled.create_infer_request()
        with _openvino_errors(model):
            embeddings: np.ndarray = request.infer(images, share_inputs=True)[0].copy()
        idle.append(request)
        return [embeddings]

    return runtime.in_batches_of(model, run)


@contextlib.contextmanager
def _openvino_errors(model: runtime.Model) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        reason = shorten(str(error).strip().splitlines()[-1], 200)
        raise Unfit(f"OpenVINO cannot run {model.path}: {reason}") from error
