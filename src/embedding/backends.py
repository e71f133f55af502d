"""One interface to what can run a network: MXNet, ONNX Runtime and OpenVINO.

    backend = load("../model/r50,1")
    embeddings = backend.embed(images)

MXNet is the reference. The others run a checkpoint as an ONNX file, which is written and proven against MXNet on first
use, and kept in the user's cache folder under a name that follows from the checkpoint's content.
"""

import functools
import hashlib
import importlib.util
import logging

import numpy as np

from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError
from insightface_mx.conversion.file import INT8_PRODUCER, PRODUCER
from insightface_mx.engine.denormals import flush_in_threads
from insightface_mx.engine.devices import get_contexts
from insightface_mx.engine.network import BATCH_SIZE, load_model
from insightface_mx.formats import atomic, cache, checkpoint

PACKAGES = {  # of each backend, the fastest on CPUs first: benchmark.py shows it
    "openvino": ("openvino", "onnx", "onnxruntime"),
    "onnxruntime": ("onnx", "onnxruntime"),
    "mxnet": ("mxnet",),
}
CHOICES = ("auto", *PACKAGES)
INT8_COSINE = 0.98  # between two runtimes' embeddings of an image in int8: they do not round at the same places


class Backend:
    """A network ready to embed images.

    name: a key of PACKAGES. image_size: (height, width). length: of an embedding. run: function from float32 images
    (b, 3, height, width), RGB of 0..255, to embeddings (b, length).
    """

    def __init__(self, name, run, image_size):
        self.name, self.image_size, self._run = name, tuple(image_size), run
        self.length = run(np.zeros((1, 3, *image_size), np.float32)).shape[1]

    def embed(self, images, batch_size=BATCH_SIZE):
        """Embeddings, not scaled to unit length, of (n, 3, height, width) RGB images of 0..255: (n, length) float32.

        batch_size: images in one pass. ValueError: images of another shape.
        """
        images = np.asarray(images)
        if images.ndim != 4 or images.shape[1:] != (3, *self.image_size):
            raise ValueError(f"images must be (n, 3, {self.image_size[0]}, {self.image_size[1]}), not {images.shape}")
        starts = range(0, len(images), batch_size)
        rows = [self._run(np.ascontiguousarray(images[i : i + batch_size], np.float32)) for i in starts]
        return np.concatenate([np.empty((0, self.length), np.float32), *rows])


class Unfit(UserError):
    """A backend cannot run a network, or computes something else."""


def load(model, image_size=(112, 112), name="auto", device="cpu"):
    """The Backend for a checkpoint 'PREFIX,EPOCH', or for an ONNX file that export_onnx.py or quantize.py wrote.

    image_size: (height, width) in pixels. name: one of CHOICES; 'auto' is MXNet on a GPU, and on the CPU the fastest
    backend that is installed and agrees with the reference; a warning says why one was passed over. device: as
    `devices.get_contexts` takes it. UserError: a file that is missing, damaged or does not fit; a package that is
    not installed; Unfit: a backend that was chosen disagrees with the reference.
    """
    make = _of_file if model.endswith(".onnx") else _of_checkpoint
    contexts = get_contexts(device)
    flush_in_threads(contexts)
    candidates = _candidates(name, model, contexts)
    return _first_fit([functools.partial(make, candidate, model, image_size, contexts) for candidate in candidates])


def installed(name):
    """Whether all packages of a backend are there."""
    return all(importlib.util.find_spec(package) for package in PACKAGES[name])


def onnx_backend(name, path, image_size):
    """The Backend called `name` for an ONNX file, unproven. Unfit: it cannot run the file."""
    return Backend(name, _RUNNERS[name](path), image_size)


def _candidates(name, model, contexts):
    if name not in CHOICES:
        raise UserError(f"backend {name} is not known: choose one of {', '.join(CHOICES)}")
    is_file = model.endswith(".onnx")
    if is_file and name == "mxnet":
        raise UserError(f"MXNet does not run {model}: choose another backend, or make it a checkpoint (import_onnx.py)")
    if name == "auto" and contexts[0].device_type == "gpu" and not is_file:
        return ["mxnet"]
    wanted = [name] if name != "auto" else [key for key in PACKAGES if not is_file or key != "mxnet"]
    found = [key for key in wanted if installed(key)]
    if not found:
        packages = " and ".join(PACKAGES[wanted[-1]])
        raise UserError(f"backend {wanted[-1]} needs {packages}: pip install 'insightface-mx[deploy]'")
    return found


def _first_fit(makers):
    make, *others = makers
    try:
        return make()
    except Unfit as reason:
        if not others:
            raise
        logging.warning("a faster backend passed over: %s", reason)
    return _first_fit(others)


def _of_checkpoint(name, model, image_size, contexts):
    if name == "mxnet":
        return Backend(name, _mxnet(model, image_size, contexts), image_size)
    path, expected = _exported(model, image_size)
    return _proven(onnx_backend(name, path, image_size), expected)


def _of_file(name, path, image_size, contexts):
    """A backend for an ONNX file, proven against ONNX Runtime. Only files with a known scaling of pixels are taken."""
    from insightface_mx.conversion import file as onnx_file
    from insightface_mx.conversion import proof as onnx_check

    session = onnx_file.session(path, path)
    producer = session.get_modelmeta().producer_name
    if producer not in (PRODUCER, INT8_PRODUCER):
        raise UserError(f"{path} was not written here, so its scaling of pixels is unknown: use import_onnx.py first")
    size = tuple(session.get_inputs()[0].shape[2:])
    if size != tuple(image_size):
        raise UserError(f"{path} takes images of {size[0]},{size[1]}: give --image-size {size[0]},{size[1]}")
    images = onnx_check.make_images(image_size)
    expected = onnx_file.run(session, {session.get_inputs()[0].name: images}, path)[0]
    return _proven(onnx_backend(name, path, image_size), expected, producer == INT8_PRODUCER)


def _proven(backend, expected, int8=False):
    """The backend, if it computes what is expected for the images of onnx_check.make_images."""
    from insightface_mx.conversion import proof as onnx_check

    difference = onnx_check.compare([expected], [backend.embed(onnx_check.make_images(backend.image_size))])
    if not (difference.cosine >= INT8_COSINE if int8 else difference.is_small):
        raise Unfit(f"{backend.name} disagrees with the reference: {difference}")
    return backend


def _exported(model, image_size):
    """Path of a checkpoint as a proven ONNX file, and MXNet's embeddings of the images that prove it."""
    from insightface_mx.conversion import export as export_onnx
    from insightface_mx.conversion import proof as onnx_check

    path = _cache_path(model, image_size)
    expected = path.with_suffix(".npy")
    if not expected.exists():
        network, images = export_onnx.load_network(model, image_size), onnx_check.make_images(image_size)
        logging.warning("writing %s as an ONNX file, once: %s", model, path)
        try:
            export_onnx.export(network, str(path), image_size, images)
        except UserError as error:
            raise Unfit(str(error)) from error
        run = onnx_check.mxnet_runner(*network, images.shape)
        with atomic.atomic_path(str(expected)) as temporary, open(temporary, "wb") as file:
            np.save(file, run(images)[0])
    return str(path), np.load(str(expected))


def _cache_path(model, image_size):
    prefix, epoch = checkpoint.parse(model)
    content = hashlib.blake2b(repr(tuple(image_size)).encode(), digest_size=12)
    try:
        for part in (checkpoint.symbol_path(prefix), checkpoint.params_path(prefix, epoch)):
            with open(part, "rb") as file:
                for block in iter(lambda: file.read(1 << 20), b""):
                    content.update(block)
        return cache.cache_folder() / "networks" / f"{content.hexdigest()}.onnx"
    except OSError as error:
        raise UserError(f"cannot open {error.filename}: {error.strerror}; give the model as PREFIX,EPOCH") from error
    except RuntimeError as error:  # no home folder
        raise Unfit(f"{error}: set XDG_CACHE_HOME to a folder for the ONNX file") from error


def _mxnet(model, image_size, contexts):
    bound = load_model(*checkpoint.parse(model), contexts, 1, image_size)

    def run(images):
        bound.forward(mx.io.DataBatch([mx.nd.array(images)]), is_train=False)  # binds anew for other batches
        return bound.get_outputs()[0].asnumpy()

    return run


def _onnxruntime(path):
    from insightface_mx.conversion import file as onnx_file

    session = onnx_file.session(path, path)
    data = session.get_inputs()[0].name
    return lambda images: onnx_file.run(session, {data: images}, path)[0]


def _openvino(path):
    import openvino

    # Without it OpenVINO computes in bfloat16 where the processor can, which loses too much.
    precision = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    try:
        compiled = openvino.Core().compile_model(path, "CPU", precision)
    except RuntimeError as error:
        raise Unfit(f"OpenVINO cannot run {path}: {str(error).strip().splitlines()[-1]}") from error
    return lambda images: compiled(images)[0].copy()


_RUNNERS = {"openvino": _openvino, "onnxruntime": _onnxruntime}
