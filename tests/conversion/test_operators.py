"""Every operator of the ONNX export against MXNet."""

import pytest
from onnx_networks import SHAPE, conv, data, dense, exported, inner, norm, pool, prelu, random_params

from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError
from insightface_mx.conversion import operators
from insightface_mx.engine.symbol_graph import SymbolGraph

OPERATORS = {
    "convolution": conv(data),
    "convolution wide": conv(data, kernel=(1, 7), pad=(1, 2), stride=(2, 1), no_bias=True),
    "convolution in groups": conv(data, num_group=3, dilate=(2, 1), pad=(2, 2)),
    "dense on a map": dense(data),
    "dense on a vector": dense(mx.sym.Flatten(data), no_bias=True),
    "dense without flatten": dense(mx.sym.Flatten(data), flatten=False),
    "prelu of a map": prelu(data),
    "prelu of a vector": prelu(dense(data)),
    "norm": norm(inner),
    "norm with MXNet's eps": mx.sym.BatchNorm(inner, fix_gamma=False, name="bn"),
    "norm with gamma fixed": norm(inner, fix_gamma=True),
    "norm of the images": norm(data, fix_gamma=True),
    "norm of the images with gamma": norm(data),
    "average": pool("avg"),
    "average without padding": pool("avg", count_include_pad=False),
    "maximum": pool("max"),
    "global average": pool("avg", global_pool=True),
    "global maximum": pool("max", global_pool=True),
    "concat": mx.sym.Concat(data, inner, dim=1),
    "slice": mx.sym.slice(data, begin=(None, None, 1, 1), end=(None, None, None, None)),
    "slice of one axis": mx.sym.slice_axis(data, axis=1, begin=1, end=2),
    "slice to the end": mx.sym.slice_axis(data, axis=1, begin=1, end=None),
    "pad": mx.sym.Pad(data, mode="constant", constant_value=3, pad_width=(0, 0, 0, 0, 1, 0, 0, 2)),
    "sum of three": mx.sym.add_n(data, data * 0.5, inner),
    "sum of two": mx.sym.add_n(data, inner),
    "sum over channels": mx.sym.sum(data * inner, axis=1, keepdims=True),
    "mean of all": mx.sym.broadcast_div(data, mx.sym.sqrt(mx.sym.mean(data * data))),
    "tile": mx.sym.tile(mx.sym.slice_axis(data, axis=1, begin=0, end=1), reps=(1, 4, 1, 1)),
    "transpose": mx.sym.transpose(data, axes=(0, 2, 3, 1)),
    "unit length": mx.sym.L2Normalization(mx.sym.Flatten(data), mode="instance"),
    "weighted": mx.sym.broadcast_mul(data, pool("avg", global_pool=True)),
    "rounded": mx.sym.floor(data * 3 + 0.5),
    "scaled and dropped": mx.sym.Dropout(mx.sym.BlockGrad(mx.sym.identity((data - 0.5) * 2 + inner)), p=0.4),
    **{act: mx.sym.Activation(data, act_type=act) for act in ("relu", "sigmoid", "softrelu", "softsign", "tanh")},
}


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_computes_what_mxnet_computes(name, tmp_path):
    difference, _ = exported(OPERATORS[name], tmp_path / "one.onnx")
    assert difference < 5e-6


def test_every_operator_of_the_table_is_among_those():
    tested = {node.op for symbol in OPERATORS.values() for node in SymbolGraph(symbol).nodes}
    assert len(operators.OPERATORS) == 29
    assert set(operators.OPERATORS) <= tested


@pytest.mark.parametrize(
    ("symbol", "message"),
    [
        (mx.sym.sin(data, name="wave"), r"operator sin \(node wave\) has no ONNX form here.*Convolution"),
        (mx.sym.LeakyReLU(data, act_type="elu", name="elu0"), "node elu0 has act_type elu"),
        (mx.sym.BatchNorm(inner, axis=3, name="last"), "node last has axis 3"),
        (pool("max", pooling_convention="full", name="top"), "node top has pooling_convention full"),
        (dense(data, flatten=False), "node fc has flatten False"),
    ],
)
def test_what_has_no_onnx_form_is_named(symbol, message):
    with pytest.raises(UserError, match=message):
        operators.from_symbol(symbol, random_params(symbol, SHAPE), SHAPE)


def test_attributes_as_python_2_wrote_them():
    node = operators.Operator("conv", [], {"kernel": "(3L, 3L)", "no_bias": "True", "pad": "2L"})
    assert (node.get("kernel"), node.get("no_bias"), node.get("pad"), node.get("stride", 1)) == ((3, 3), True, 2, 1)


@pytest.mark.parametrize("text", ["nan", "(1,", "true", "x" * 1000])
def test_attributes_that_are_no_values(text):
    with pytest.raises(UserError, match=r"node conv has kernel .{2,80}, which has no ONNX form here"):
        operators.Operator("conv", [], {"kernel": text}).get("kernel")
