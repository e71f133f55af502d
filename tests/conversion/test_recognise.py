"""Networks are recognised by their graphs, and all parameters have a place."""

import numpy as np
import pytest
from onnx_networks import random_params

from insightface_mx.base.compat import mx
from insightface_mx.conversion.fingerprint import take_fingerprint
from insightface_mx.conversion.fold_norms import fold_norms
from insightface_mx.conversion.operators import from_symbol
from insightface_mx.conversion.read_params import read_params
from insightface_mx.conversion.recognise import Match, fingerprint_of_symbol, pair_steps, placeholders, recognise
from insightface_mx.symbols import get_symbol

LARGE = {  # too large to be run here
    "i2": {"version_output": "E"},
    "n": {"version_output": "GAP"},
    "p68": {"version_input": 0},
    "r100": {"version_output": "GDC"},
    "r152": {"version_unit": 5},
    "t152": {"version_multiplier": 4.0},
}


@pytest.mark.slow
@pytest.mark.parametrize("network", LARGE)
def test_a_large_network_is_recognised_and_all_its_parameters_have_a_place(network):
    symbol = get_symbol(network, 64, **LARGE[network])
    shape = (1, 3, 112, 112)
    theirs = take_fingerprint(from_symbol(symbol, placeholders(symbol, shape), shape))
    match = recognise(theirs, shape[2:], "the graph")
    assert match.symbol.list_arguments() == symbol.list_arguments()
    assert match.symbol.list_auxiliary_states() == symbol.list_auxiliary_states()
    assert len(match.pairs) == len(theirs.steps)
    assert all(step.node.name == other.node.name for step, other in match.pairs)


def test_a_norm_without_attributes_has_mxnets_defaults():
    body = mx.sym.Convolution(mx.sym.Variable("data"), num_filter=4, kernel=(3, 3), name="conv")
    symbol = mx.sym.FullyConnected(mx.sym.BatchNorm(body, name="bn"), num_hidden=5, name="fc1")
    params = random_params(symbol, (1, 3, 8, 8))
    theirs = take_fingerprint(fold_norms(from_symbol(symbol, params, (1, 3, 8, 8))))
    ours = fingerprint_of_symbol(symbol, (8, 8))
    assert ours.signature == theirs.signature
    match = Match("tiny", symbol, ours, pair_steps(ours, theirs))
    found = read_params(match, theirs)
    factor = 1 / np.sqrt(params["bn_moving_var"] + 1e-3)
    np.testing.assert_allclose(found["conv_weight"], params["conv_weight"] * factor.reshape(4, 1, 1, 1), rtol=1e-5)
    shift = (params["conv_bias"] - params["bn_moving_mean"]) * factor + params["bn_beta"]
    np.testing.assert_allclose(found["bn_beta"], shift, rtol=1e-5)
    assert np.all(found["bn_gamma"] == 1)
    np.testing.assert_allclose(found["bn_moving_var"], 0.999, rtol=1e-6)
