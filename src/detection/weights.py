"""Read the weights of MTCNN from the PyPI package mtcnn 1.0.0, or from the original's checkpoints det1 to det4.

Both hold the same arrays for P, R and O; only det4 holds L. The package is never imported, because it imports
TensorFlow. Its files are pickles, which can run code when they are read. So they are read with an unpickler for arrays
of float32 and nothing else.
"""

from __future__ import annotations

import importlib.util
import io
import os
import pickle
from typing import Any, BinaryIO, Callable, NamedTuple, Sequence

import numpy as np

from insightface_mx.base.compat import Params, Symbol, mx
from insightface_mx.base.errors import UserError, pip_command
from insightface_mx.base.limits import MAX_WEIGHTS_BYTES
from insightface_mx.files import safe_pickle
from insightface_mx.files.regular_file import open_regular
from insightface_mx.formats import checkpoint
from insightface_mx.symbols import mtcnn


class Network(NamedTuple):
    """One network of MTCNN and where its weights are.

    Attributes:
        symbol: Builds the graph.
        input_shape: Channels, height and width of its input; P's is the smallest one.
        checkpoint: Name of the original's checkpoint.
        file: Name of the package's file; '' if it has none.
        layers: Names of the layers in the order of that file.
    """

    symbol: Callable[[], Symbol]
    input_shape: tuple[int, int, int]
    checkpoint: str
    file: str
    layers: str


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
    "l": Network(mtcnn.l_net, (15, 24, 24), "det4", "", ""),
}
_INSTALL = (
    f"{pip_command('detect')}, and before Python 3.10 also pip install --no-deps --ignore-requires-python mtcnn==1.0.0"
)


def load(name: str, folder: str | None = None) -> Params:
    """Read the weights of a network, float32.

    Args:
        name: p, r, o or l.
        folder: Holds detN-symbol.json and detN-0001.params; None: the installed package mtcnn.

    Raises:
        UserError: A file is missing, damaged or of another network.
    """
    network = NETWORKS[name]
    if folder is None:
        path, params = _from_package(network)
    else:
        prefix = os.path.join(folder, network.checkpoint)
        path, params = checkpoint.params_path(prefix, 1), checkpoint.load(prefix, 1)[1]
    _check(network, params, path)
    return params


def read_arrays(content: bytes) -> list[np.ndarray]:
    """Read a list of float32 arrays from the uncompressed bytes of a joblib file.

    Raises:
        pickle.UnpicklingError: The file names anything else; nothing was run.
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


def convert(layers: Sequence[str], arrays: Sequence[np.ndarray]) -> Params:
    """Convert arrays from TensorFlow's layout to MXNet's.

    The first convolution is changed from RGB to BGR, the first dense layer from a flattened W x H x C map to C x H x W.

    Args:
        layers: Names in the order of the arrays. A layer called prelu... has one array, any other weight and bias.
        arrays: Float32 arrays.
    """
    rest, channels = iter(arrays), 0
    params: dict[str, np.ndarray] = {}
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


def _dense(values: np.ndarray, channels: int) -> np.ndarray:
    """Turn rows in the order W, H, C into columns in the order C, H, W; W = H, both 1 where no map was flattened."""
    side = int((len(values) // channels) ** 0.5)
    return values.reshape(side, side, channels, -1).transpose(3, 2, 1, 0).reshape(-1, len(values))


def _from_package(network: Network) -> tuple[str, Params]:
    """Return the path of the package's file for a network, and its weights."""
    if not network.file:
        raise UserError(
            f"the package mtcnn lacks MTCNN's network L for accurate landmarks: give a model_folder with "
            f"{network.checkpoint}, or leave accurate_landmark off"
        )
    missing = [package for package in ("mtcnn", "lz4") if importlib.util.find_spec(package) is None]
    if missing:
        raise UserError(f"MTCNN's weights need the package {' and '.join(missing)}: {_INSTALL}")
    import lz4.frame

    path = os.path.join(_package_folder("mtcnn"), "assets", "weights", network.file)
    try:
        with open_regular(path) as file:
            unpacked = lz4.frame.LZ4FrameDecompressor()
            content = unpacked.decompress(file.read(MAX_WEIGHTS_BYTES), MAX_WEIGHTS_BYTES)
        if not unpacked.eof:
            raise EOFError(f"it is cut short, or holds more than {MAX_WEIGHTS_BYTES} bytes")
        return path, convert(network.layers.split(), read_arrays(content))
    except OSError as error:
        raise UserError(f"cannot open {path}: {error.strerror}; install mtcnn==1.0.0 again") from error
    except safe_pickle.DAMAGE as error:
        raise UserError(f"{path} is damaged or not of mtcnn 1.0.0 ({error}); install mtcnn==1.0.0 again") from error


def _package_folder(package: str) -> str:
    """Return the folder of an installed package without importing it."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return os.path.dirname(spec.origin)


def _check(network: Network, params: Params, path: str) -> None:
    """Raise UserError if the weights of a file do not fit a network."""
    symbol = network.symbol()
    shapes, _, _ = symbol.infer_shape(data=(1, *network.input_shape))
    for argument, shape in zip(symbol.list_arguments(), shapes):
        found = params[argument].shape if argument in params else "missing"
        if argument != "data" and found != shape:
            raise UserError(f"{path} is not MTCNN's {network.checkpoint}: {argument} is {found}, not {shape}")


class _Float32:
    """Stands in for numpy.dtype."""

    def __init__(self, code: str, *_: Any) -> None:
        if code != "f4":
            raise pickle.UnpicklingError(f"it holds values of type {code}, not float32")

    def __setstate__(self, state: Sequence[Any]) -> None:
        if state[1] != "<":
            raise pickle.UnpicklingError(f"its values are in the byte order {state[1]}, not <")


class _Array:
    """Stands in for joblib's NumpyArrayWrapper: a pickled description, with the values behind it in the file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Read the values: a byte with the number of padding bytes, the padding, and the values."""
        if state["order"] != "C" or not isinstance(state["dtype"], _Float32):
            raise pickle.UnpicklingError(f"it holds an array in the order {state['order']}, not C")
        self._file.seek(self._file.read(1)[0], io.SEEK_CUR)
        size = 4 * int(np.prod(state["shape"], dtype=np.int64))
        self.values = np.frombuffer(self._file.read(size), np.float32).reshape(state["shape"])
