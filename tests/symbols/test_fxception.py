"""Xception, and the checkpoints of its old form with one convolution a channel."""

import json

import numpy as np
import pytest

from insightface_mx.base.compat import mx
from insightface_mx.symbols import fxception, get_symbol

CHANNELS, FILTERS, SIZE = 12, 5, 7
GROUPED = fxception.separable(mx.sym.Variable("data"), "sep", CHANNELS, FILTERS, 0.9)


def per_channel():
    """The graph that GROUPED stands for: slices, a convolution for each, and the same layers on their concatenation."""
    slices = mx.sym.SliceChannel(mx.sym.Variable("data"), axis=1, num_outputs=CHANNELS)
    depthwise = [
        mx.sym.Convolution(slices[i], num_filter=1, kernel=(3, 3), pad=(1, 1), name=f"sep_depthwise_kernel_{i}")
        for i in range(CHANNELS)
    ]
    body = mx.sym.Concat(*depthwise)
    body = mx.sym.Convolution(body, num_filter=FILTERS, kernel=(1, 1), name="sep_pointwise_kernel")
    return mx.sym.BatchNorm(body, fix_gamma=False, eps=2e-5, name="sep_bn")


def random_params(symbol):
    """Arguments and auxiliary states of `symbol`, all positive, so that every one changes the outputs."""
    random = np.random.RandomState(0)
    arguments, _, auxiliary = symbol.infer_shape(data=(1, CHANNELS, SIZE, SIZE))
    named = list(zip(symbol.list_arguments(), arguments)), list(zip(symbol.list_auxiliary_states(), auxiliary))
    return [
        {name: mx.nd.array(random.uniform(0.1, 1, shape)) for name, shape in part if name != "data"} for part in named
    ]


def forward(symbol, arguments, auxiliary, data):
    executor = symbol.bind(mx.cpu(), {**arguments, "data": mx.nd.array(data)}, aux_states=auxiliary)
    return executor.forward(is_train=False)[0].asnumpy()


def test_a_stacked_checkpoint_gives_the_outputs_of_the_old_one():
    data = np.random.RandomState(1).uniform(-1, 1, (2, CHANNELS, SIZE, SIZE)).astype(np.float32)
    arguments, auxiliary = random_params(per_channel())
    stacked = fxception.stack_channels(arguments)
    assert sorted(stacked) == sorted(set(GROUPED.list_arguments()) - {"data"})
    old = forward(per_channel(), arguments, auxiliary, data)
    np.testing.assert_allclose(forward(GROUPED, stacked, auxiliary, data), old, rtol=1e-4, atol=1e-5)
    assert np.abs(old).max() > 1


@pytest.mark.parametrize("prefix", ["", "arg:"])
def test_channels_are_stacked_in_their_order_under_one_name(prefix):
    old = {f"{prefix}a_depthwise_{i}_weight": mx.nd.full((1, 1, 3, 3), i) for i in reversed(range(11))}
    old.update((f"{prefix}a_depthwise_{i}_bias", mx.nd.full((1,), -i)) for i in range(11))
    new = fxception.stack_channels(old)
    assert set(new) == {f"{prefix}a_depthwise_weight", f"{prefix}a_depthwise_bias"}
    assert new[f"{prefix}a_depthwise_weight"].shape == (11, 1, 3, 3)
    assert new[f"{prefix}a_depthwise_weight"][:, 0, 0, 0].asnumpy().tolist() == list(range(11))
    assert new[f"{prefix}a_depthwise_bias"].asnumpy().tolist() == [-i for i in range(11)]


def test_other_parameters_and_new_checkpoints_stay_as_they_are():
    params = {name: mx.nd.zeros((1,)) for name in get_symbol("x", 512).list_arguments()}
    params.update({"block_1_weight": mx.nd.zeros((1,)), "a_depthwise_1_gamma": mx.nd.zeros((1,))})
    new = fxception.stack_channels(params)
    assert new.keys() == params.keys()
    assert len(new) > 100
    assert all(new[name] is params[name] for name in params)


def test_a_missing_channel_is_named():
    old = {f"a_depthwise_{i}_weight": mx.nd.zeros((1, 1, 3, 3)) for i in (0, 1, 3)}
    with pytest.raises(ValueError, match="a_depthwise_weight: the checkpoint has 3 channels of it and lacks channel 2"):
        fxception.stack_channels(old)


def test_the_old_graph_had_its_11596_convolutions():
    nodes = json.loads(get_symbol("x", 512).tojson())["nodes"]
    convolutions = [node for node in nodes if node["op"] == "Convolution"]
    assert sum(int(node["attrs"].get("num_group", 1)) for node in convolutions) == 11596
    assert len(convolutions) == 74
