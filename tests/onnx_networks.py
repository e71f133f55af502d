"""Networks with random numbers for the tests of the ONNX commands."""

import numpy as np

from insightface_mx.base.compat import mx
from insightface_mx.formats import checkpoint
from insightface_mx.symbols import get_symbol


def random_params(symbol, data_shape, seed=0):
    """Numbers of which each counts, moving averages too, and that keep the outputs at a usual size."""
    random = np.random.RandomState(seed)
    arguments, _, auxiliary = symbol.infer_shape(data=data_shape)
    names = symbol.list_arguments() + symbol.list_auxiliary_states()
    return {
        name: _numbers(random, name, shape).astype(np.float32)
        for name, shape in zip(names, arguments + auxiliary)
        if name != "data"
    }


def _numbers(random, name, shape):
    if name.endswith(("beta", "bias", "mean")):
        return random.normal(0, 0.2, shape)
    if name.endswith(("var", "gamma")):
        return random.uniform(0.5, 1.5, shape) * (0.25 if "relu" in name else 1)
    gain = 0.02 if "_se_" in name else 2  # a sigmoid of large numbers is a step, which no two programs agree on
    return random.normal(0, np.sqrt(gain / np.prod(shape[1:])), shape)


def save_network(prefix, network, emb_size=32, size=112, **versions):
    """Save a network with random numbers as checkpoint 0; returns its symbol and numbers."""
    symbol = get_symbol(network, emb_size, image_size=(size, size), **versions)
    params = random_params(symbol, (1, 3, size, size))
    save_params(prefix, symbol, params)
    return symbol, params


def save_params(prefix, symbol, params):
    arrays = {name: mx.nd.array(value) for name, value in params.items()}
    auxiliary = {name: arrays.pop(name) for name in symbol.list_auxiliary_states()}
    checkpoint.save(str(prefix), 0, symbol, arrays, auxiliary)
