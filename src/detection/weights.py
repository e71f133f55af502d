"""The weights of MTCNN: from the PyPI package mtcnn 1.0.0, or from the original's checkpoints det1 to det4.

Both give the same tensors for P, R and O; L is in det4 alone. The package is never imported, for that takes TensorFlow.
Its files are pickles, which can call anything they name: they are read with an unpickler that knows arrays of float32
and nothing else.
"""

import importlib.util
import io
import os
import pickle
from collections import namedtuple

import numpy as np

from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError
from insightface_mx.formats import checkpoint, safe_pickle
from insightface_mx.symbols import mtcnn

# input: the smallest that P takes, for the others the only one. layers: in the order of the package's file.
Network = namedtuple("Network", "symbol input checkpoint file layers")

_CONVOLUTIONS = "conv1 prelu1 conv2 prelu2 conv3 prelu3"
NETWORKS = {
    "p": Network(mtcnn.p_net, (3, 12, 12), "det1", "pnet.lz4", f"{_CONVOLUTIONS} conv4_2 conv4_1"),
    "r": Network(mtcnn.r_net, (3, 24, 24), "det2", "rnet.lz4", f"{_CONVOLUTIONS} conv4 prelu4 conv5_2 conv5_1"),
    "o": Network(
        mtcnn.o_net,
        (3, 48, 48),
        "det3",
        "onet.lz4",
        f"{_CONVOLUTIONS} conv4 prelu4 conv5 prelu5 conv6_2 conv6_3 conv6_1",
    ),
    "l": Network(mtcnn.l_net, (15, 24, 24), "det4", None, None),
}
_INSTALL = (
    "pip install 'insightface-mx[detect]', and before Python 3.10 also "
    "pip install --no-deps --ignore-requires-python mtcnn==1.0.0"
)


def load(name, folder=None):
    """Weights of the network p, r, o or l: dict argument name -> float32 NDArray.

    folder: holds detN-symbol.json and detN-0001.params; None: the installed package mtcnn. Raises UserError for what is
    missing, damaged or of another network.
    """
    network = NETWORKS[name]
    if folder is None:
        path, params = _from_package(network)
    else:
        prefix = os.path.join(folder, network.checkpoint)
        path, params = checkpoint.params_path(prefix, 1), checkpoint.load(prefix, 1)[1]
    _check(network, params, path)
    return params


def read_arrays(content):
    """The arrays of a list that joblib wrote (uncompressed bytes): a list of float32 arrays.

    Raises pickle.UnpicklingError, having run nothing, for a file that names anything else.
    """
    file = io.BytesIO(content)
    arrays = safe_pickle.load(
        file,
        {
            "joblib.numpy_pickle.NumpyArrayWrapper": lambda: _Array(file),
            "numpy.ndarray": object,  # only mentioned, never called
            "numpy.dtype": _Float32,
        },
    )
    if not isinstance(arrays, list) or not all(isinstance(array, _Array) for array in arrays):
        raise pickle.UnpicklingError("it does not hold a list of arrays")
    return [array.values for array in arrays]


def convert(layers, arrays):
    """Arrays in TensorFlow's layout as MXNet's arguments: dict name -> float32 NDArray.

    layers: names in the order of the arrays, of which prelu... has one and the others two, weight and bias. The first
    convolution turns from RGB to BGR, the first dense layer from a flattened W x H x C map to C x H x W.
    """
    rest, params, channels = iter(arrays), {}, 0
    for layer in layers:
        values = next(rest)
        if layer.startswith("prelu"):
            params[f"{layer}_gamma"] = values.ravel()
            continue
        if values.ndim == 4:
            params[f"{layer}_weight"] = values.transpose(3, 2, 0, 1)
            channels = values.shape[3]
        else:
            params[f"{layer}_weight"] = _dense(values, channels or len(values))
            channels = 0
        params[f"{layer}_bias"] = next(rest)
    params["conv1_weight"] = params["conv1_weight"][:, ::-1]
    return {name: mx.nd.array(values) for name, values in params.items()}


def _dense(values, channels):
    """Rows in the order W, H, C, W and H alike and 1 where no map was flattened, to columns in the order C, H, W."""
    side = int((len(values) // channels) ** 0.5)
    return values.reshape(side, side, channels, -1).transpose(3, 2, 1, 0).reshape(-1, len(values))


def _from_package(network):
    if network.file is None:
        raise UserError(
            f"the package mtcnn lacks MTCNN's network of landmarks: give a model_folder with {network.checkpoint}, "
            "or leave accurate_landmark off"
        )
    missing = [package for package in ("mtcnn", "lz4") if importlib.util.find_spec(package) is None]
    if missing:
        raise UserError(f"MTCNN's weights need the package {' and '.join(missing)}: {_INSTALL}")
    package = os.path.dirname(importlib.util.find_spec("mtcnn").origin)
    path = os.path.join(package, "assets", "weights", network.file)
    try:
        return path, convert(network.layers.split(), read_arrays(_decompressed(path)))
    except OSError as error:
        raise UserError(f"cannot open {path}: {error.strerror}; install mtcnn==1.0.0 again") from error
    except safe_pickle.DAMAGE as error:
        raise UserError(f"{path} is damaged or not of mtcnn 1.0.0 ({error}); install mtcnn==1.0.0 again") from error


def _decompressed(path):
    import lz4.frame  # here, for a folder of checkpoints does without it

    with open(path, "rb") as file:
        return lz4.frame.decompress(file.read())


def _check(network, params, path):
    symbol = network.symbol()
    shapes, _, _ = symbol.infer_shape(data=(1, *network.input))
    for argument, shape in zip(symbol.list_arguments(), shapes):
        found = params[argument].shape if argument in params else "missing"
        if argument != "data" and found != shape:
            raise UserError(f"{path} is not MTCNN's {network.checkpoint}: {argument} is {found}, not {shape}")


class _Float32:
    """Stands in for numpy.dtype."""

    def __init__(self, code, *_):
        if code != "f4":
            raise pickle.UnpicklingError(f"it holds numbers of type {code}, not float32")

    def __setstate__(self, state):
        if state[1] != "<":
            raise pickle.UnpicklingError(f"its numbers are in the byte order {state[1]}, not <")


class _Array:
    """Stands in for joblib's NumpyArrayWrapper: a pickled description, with the values behind it in the file."""

    def __init__(self, file):
        self._file = file

    def __setstate__(self, state):
        """Read the values: one byte says how many bytes of padding lie before them."""
        if state["order"] != "C" or not isinstance(state["dtype"], _Float32):
            raise pickle.UnpicklingError(f"it holds an array in the order {state['order']}, not C")
        self._file.seek(self._file.read(1)[0], io.SEEK_CUR)
        size = 4 * int(np.prod(state["shape"], dtype=np.int64))
        self.values = np.frombuffer(self._file.read(size), np.float32).reshape(state["shape"])
