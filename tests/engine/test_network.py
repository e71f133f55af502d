"""InferenceModule follows the formula of PReLU for all slopes, each time that parameters are set."""

import json

import numpy as np
import pytest
from prelu_graphs import SLOPES, convolution, formula, network_with_a_global_convolution, operators, prelu

from insightface_mx.base.compat import mx
from insightface_mx.engine import cpu_rewrite
from insightface_mx.engine.network import InferenceModule

CPU = [mx.cpu()]
SHAPE = (4, 3, 9, 9)
FLAT = (-0.5, 0.25, 1.0, 0.0)  # none above 1


def block(act, data):
    """Maps of 16 and of 6 channels, of 1x1 pixels at the end; sums of a PReLU's output and a layer's output."""
    body = act(convolution(data, "c0", 16), "p0")
    body = act(mx.sym.BatchNorm(convolution(body, "c1", 16), fix_gamma=False, name="bn1") + body, "p1")
    body = act(convolution(body, "c2", 16, num_group=16), "p2") + body
    body = act(convolution(body, "c3", 6), "p3")
    return mx.sym.Convolution(body, num_filter=6, kernel=(9, 9), num_group=6, no_bias=True, name="c4")


def params_of(symbol, seed, slopes):
    """Seeded arguments and auxiliary states of a symbol; those named p* are slopes, `slopes` repeated."""
    random = np.random.RandomState(seed)
    arguments, _, auxiliary = symbol.infer_shape(data=SHAPE)
    args = {name: random.normal(size=shape) * 0.3 for name, shape in zip(symbol.list_arguments(), arguments)}
    for name in args:
        if name.endswith("gamma"):
            args[name] = np.resize(slopes, args[name].shape) if name.startswith("p") else args[name] + 1
    states = {name: random.uniform(0.5, 2, shape) for name, shape in zip(symbol.list_auxiliary_states(), auxiliary)}
    return [{name: mx.nd.array(value) for name, value in values.items()} for values in (args, states)]


def outputs_by_formula(build, images, args, states):
    """Outputs of build(act, data) by operators that are not fused with others."""
    symbol = build(formula(4), mx.sym.Variable("data"))
    args = {**{name: args[name] for name in symbol.list_arguments()}, "data": images}
    return symbol.bind(mx.cpu(), args, grad_req="null", aux_states=states).forward(is_train=False)[0].asnumpy()


def assert_follows_formula(build, module, seed, slopes, count=SHAPE[0]):
    args, states = params_of(module.symbol, seed, slopes)
    images = mx.nd.array(np.random.RandomState(seed).normal(size=(count, *SHAPE[1:])))
    module.set_params(args, states)
    module.forward(mx.io.DataBatch([images]))
    expected = outputs_by_formula(build, images, args, states)
    assert np.abs(module.get_outputs()[0].asnumpy() - expected).max() <= 2e-6 * np.abs(expected).max()


def module_of(build, contexts=CPU):
    return InferenceModule(build(prelu, mx.sym.Variable("data")), contexts, SHAPE)


def test_parameters_may_be_set_again_and_again():
    module = module_of(block)
    for seed, slopes in enumerate((FLAT, FLAT[::-1], SLOPES, SLOPES[::-1], FLAT)):  # SLOPES has some above 1
        assert_follows_formula(block, module, seed, slopes)


def test_without_fused_layers(monkeypatch):
    monkeypatch.setenv("MXNET_SUBGRAPH_BACKEND", "NONE")
    for seed, slopes in enumerate((FLAT, SLOPES)):
        assert_follows_formula(block, module_of(block), seed, slopes)


@pytest.mark.parametrize("slopes", [FLAT, SLOPES])
def test_batches_of_other_sizes_and_several_contexts(slopes):
    module = module_of(block, [mx.cpu(0), mx.cpu(1)])
    for seed, count in enumerate((4, 2, 6)):
        assert_follows_formula(block, module, seed, slopes, count)


@pytest.mark.parametrize("slope", (*FLAT, 1.75))
def test_one_slope_for_two_layers_and_all_channels(slope):
    def build(act, data):
        shared = mx.sym.Variable("p_gamma", shape=(1,))
        return act(convolution(act(convolution(data, "c0", 8), "p0", shared), "c1", 5), "p1", shared)

    assert_follows_formula(build, module_of(build), 0, (slope,))


@pytest.mark.parametrize("groups", [1, 16])
def test_a_dense_layer_on_a_map_of_one_pixel(groups):
    """oneDNN's fused dense layer fails there."""
    symbol = network_with_a_global_convolution(groups)
    plain = mx.mod.Module(symbol, label_names=None)
    plain.bind([("data", (4, 3, 7, 7))], for_training=True)
    plain.init_params(mx.init.Normal(0.3))
    batch = mx.io.DataBatch([mx.nd.array(np.random.RandomState(0).normal(size=(4, 3, 7, 7)))])
    plain.forward(batch, is_train=False)
    module = InferenceModule(symbol, CPU, (4, 3, 7, 7))
    module.set_params(*plain.get_params())
    module.forward(batch)
    expected = plain.get_outputs()[0].asnumpy()
    assert np.abs(module.get_outputs()[0].asnumpy() - expected).max() <= 2e-6 * np.abs(expected).max()


def test_maps_become_layers_and_rows_get_a_gradient():
    lines = []
    act = prelu(convolution(mx.sym.Variable("data"), "c0", 8), "p0")
    symbol = prelu(mx.sym.FullyConnected(act, num_hidden=4, name="fc"), "p1")
    slopes = [0.5, 1, -1, 2, 0, 0.25, 1.5, 3]
    params = {"p0_gamma": mx.nd.array(slopes)}
    fast, weights = cpu_rewrite.rewrite_for_inference(symbol, params, CPU, {"data": SHAPE}, lines.append)
    assert operators(fast).count("Convolution") == 3
    assert "LeakyReLU" not in operators(fast)
    assert len(lines) == 2
    assert lines[0] == "CPU rewrite: 1 of 2 PReLU as layers of oneDNN"
    assert lines[1].startswith("CPU rewrite: 1 of 2 PReLU as ")
    assert fast.list_outputs() == symbol.list_outputs()
    added = {"p0_cpu_whole_weight": slopes, "p0_cpu_rest_weight": [1 - slope for slope in slopes]}
    assert set(fast.list_arguments()) == set(symbol.list_arguments()) - {"p0_gamma"} | set(added)
    assert weights.keys() == {"p0_gamma", *added}
    for name, values in added.items():
        assert np.array_equal(weights[name].asnumpy(), np.reshape(values, (8, 1, 1, 1)))


@pytest.mark.parametrize(("slopes", "last"), [(FLAT, "Activation"), (SLOPES, "Convolution")])
def test_relu_comes_last_unless_a_slope_is_above_one(slopes, last):
    symbol, params = prelu(mx.sym.Variable("data"), "p"), {"p_gamma": mx.nd.array(slopes)}
    shapes = {"data": (2, len(slopes), 5, 5)}
    fast, _ = cpu_rewrite.rewrite_for_inference(symbol, params, CPU, shapes)
    nodes = json.loads(fast.tojson())["nodes"]
    assert nodes[nodes[-1]["inputs"][1][0]]["op"] == last


def test_gpus_keep_the_symbol():
    symbol, params = prelu(mx.sym.Variable("data"), "p"), {"p_gamma": mx.nd.array(FLAT)}
    kept = cpu_rewrite.rewrite_for_inference(symbol, params, [mx.gpu()], {"data": (2, 4, 5, 5)})
    assert kept[0] is symbol
    assert kept[1] == params
