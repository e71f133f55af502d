"""Networks with random parameters, single operators and their ONNX files, for the tests of the ONNX conversion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from insightface_mx.base.compat import Symbol, mx
from insightface_mx.conversion import proof
from insightface_mx.conversion.fold_norms import fold_norms
from insightface_mx.conversion.operators import from_symbol
from insightface_mx.formats import checkpoint
from insightface_mx.onnx_files import file, runtime
from insightface_mx.onnx_files.graph import Constants
from insightface_mx.symbols import get_symbol

SIZE = 9  # of the images that the operators below take
SHAPE = (2, 3, SIZE, SIZE)
data = mx.sym.Variable("data")
inner = mx.sym.Activation(data, act_type="tanh")  # a norm of `data` itself is another matter


def random_params(symbol: Symbol, data_shape: tuple[int, ...], seed: int = 0) -> Constants:
    """Return parameters of which each counts, moving averages too, and that keep the outputs at a usual size."""
    random = np.random.RandomState(seed)
    arguments, _, auxiliary = symbol.infer_shape(data=data_shape)
    names = symbol.list_arguments() + symbol.list_auxiliary_states()
    return {
        name: _values(random, name, shape).astype(np.float32)
        for name, shape in zip(names, arguments + auxiliary)
        if name != "data"
    }


def _is_slope(name: str) -> bool:
    """Whether a parameter is the slope of a PReLU."""
    return name.endswith("alpha") or any(part in name for part in ("relu", "_act_", "_act1_"))


def _values(random: np.random.RandomState, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name.endswith(("beta", "bias", "mean")):
        return random.normal(0, 0.2, shape)
    if name.endswith(("var", "gamma", "alpha")):
        return random.uniform(0.5, 1.5, shape) * (0.25 if _is_slope(name) else 1)
    gain = 0.02 if "_se_" in name else 2  # a sigmoid of large numbers is a step, which no two programs agree on
    return random.normal(0, np.sqrt(gain / np.prod(shape[1:])), shape)


def save_network(
    prefix: Path | str, network: str, emb_size: int = 32, size: int = 112, **versions: Any
) -> tuple[Symbol, Constants]:
    """Save a network with random parameters as checkpoint 0; return its symbol and parameters."""
    symbol = get_symbol(network, emb_size, image_size=(size, size), **versions)
    params = random_params(symbol, (1, 3, size, size))
    save_params(prefix, symbol, params)
    return symbol, params


def save_params(prefix: Path | str, symbol: Symbol, params: Constants) -> None:
    """Save a symbol with parameters as checkpoint 0."""
    arrays = {name: mx.nd.array(value) for name, value in params.items()}
    auxiliary = {name: arrays.pop(name) for name in symbol.list_auxiliary_states()}
    checkpoint.save(str(prefix), 0, symbol, arrays, auxiliary)


def load_params(prefix: Path | str) -> Constants:
    """Return the parameters of checkpoint 0, name -> array."""
    _, arguments, auxiliary = checkpoint.load(str(prefix), 0)
    return {name: array.asnumpy() for name, array in {**arguments, **auxiliary}.items()}


def conv(source: Symbol, **attrs: Any) -> Symbol:
    return mx.sym.Convolution(source, name="conv", **{"num_filter": 6, "kernel": (3, 3), **attrs})


def norm(source: Symbol, name: str = "bn", **attrs: Any) -> Symbol:
    return mx.sym.BatchNorm(source, name=name, **{"fix_gamma": False, "eps": 2e-5, **attrs})


def dense(source: Symbol, **attrs: Any) -> Symbol:
    return mx.sym.FullyConnected(source, num_hidden=5, name="fc", **attrs)


def prelu(source: Symbol) -> Symbol:
    return mx.sym.LeakyReLU(source, act_type="prelu", name="relu")


def pool(pool_type: str, **attrs: Any) -> Symbol:
    return mx.sym.Pooling(data, pool_type=pool_type, **{"kernel": (3, 3), "stride": (2, 2), "pad": (1, 1), **attrs})


def exported(symbol: Symbol, path: Path, fold: bool = False) -> tuple[float, list[str]]:
    """Export a symbol; return the largest relative difference from MXNet, and the operators in its file."""
    images = np.random.RandomState(1).normal(size=SHAPE).astype(np.float32)
    params = random_params(symbol, SHAPE)
    graph = from_symbol(symbol, params, SHAPE)
    if fold:
        graph = fold_norms(graph)
    (expected,) = proof.mxnet_runner(symbol, params, SHAPE)(images)
    file.save(graph, str(path), (SIZE, SIZE), [expected.shape[1:]])
    (found,) = runtime.runner(runtime.open_model(str(path)))(images)
    return np.abs(found - expected).max() / np.abs(expected).max(), [node.op for node in graph.nodes]
