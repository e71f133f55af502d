"""Parameters of a checkpoint for another run, and parameters that keep their values."""

from __future__ import annotations

import json
import os
import re

import numpy as np
import pytest
from class_network import INPUTS, SHAPE, network, parameters
from harness import MODEL_ZOO, ZOO_ONLY

from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError
from insightface_mx.conversion.proof import mxnet_runner
from insightface_mx.formats import checkpoint
from insightface_mx.symbols import get_symbol
from insightface_mx.training.fine_tuning import check_parameters, freeze, load_pretrained


@pytest.fixture
def saved(tmp_path):
    """A checkpoint of the network with 5 classes, all of whose values are 3."""
    symbol = network()
    checkpoint.save(str(tmp_path / "m"), 1, symbol, *parameters(symbol, 3.0))
    return f"{tmp_path}/m,1"


def test_a_checkpoint_of_the_same_network_is_taken_as_it_is(saved):
    args, averages = load_pretrained(saved, network(), SHAPE, INPUTS, strict_classes=True)
    assert set(args) == {"conv0_weight", "bn0_gamma", "bn0_beta", "fc7_weight"}
    assert set(averages) == {"bn0_moving_mean", "bn0_moving_var"}
    assert all(np.all(array.asnumpy() == 3) for array in (*args.values(), *averages.values()))


def test_class_weights_of_other_classes_are_left_out(saved, caplog):
    caplog.set_level("INFO")
    args, _ = load_pretrained(saved, network(classes=7), SHAPE, INPUTS)
    assert set(args) == {"conv0_weight", "bn0_gamma", "bn0_beta"}
    assert "found fc7_weight (5, 32), expected (7, 32); the class weights start as random ones" in caplog.text
    with pytest.raises(UserError, match=r"found fc7_weight \(5, 32\), expected \(7, 32\); without --pretrained-fc7"):
        load_pretrained(saved, network(classes=7), SHAPE, INPUTS, strict_classes=True)


def test_another_network_is_refused_with_the_first_names(saved):
    with pytest.raises(
        UserError, match=r"another network, 5 parameters differ: found conv0_weight \(2, 3, 1, 1\), exp"
    ):
        load_pretrained(saved, network(filters=3), SHAPE, INPUTS)


def embedding(dense_weight: str, first: str = "conv0", output: str = "fc1", act: str = "relu"):
    """A convolution, a dense layer `pre_fc1` whose weight has a name of its own, and a batch norm."""
    body = mx.sym.Convolution(mx.sym.Variable("data"), num_filter=2, kernel=(1, 1), no_bias=True, name=first)
    body = mx.sym.Activation(body, act_type=act) if act else body
    body = mx.sym.FullyConnected(body, mx.sym.Variable(dense_weight), num_hidden=3, name="pre_fc1")
    return mx.sym.BatchNorm(body, name=output)


def with_head(symbol):
    fc7 = mx.sym.FullyConnected(symbol, num_hidden=5, no_bias=True, name="fc7")
    return mx.sym.SoftmaxOutput(fc7, mx.sym.Variable("softmax_label"), name="softmax")


def test_a_parameter_with_another_name_at_the_same_place_is_taken(tmp_path, caplog):
    caplog.set_level("INFO")
    old, here = embedding("fc1_weight", "conv_first"), with_head(embedding("pre_fc1_weight"))
    args, averages = parameters(old)
    args["fc1_weight"][:], args["conv_first_weight"][:] = 7, 8
    checkpoint.save(str(tmp_path / "m"), 1, old, args, averages)
    taken, taken_averages = load_pretrained(f"{tmp_path}/m,1", here, SHAPE, INPUTS)
    assert set(taken) == {"conv0_weight", "pre_fc1_weight", "pre_fc1_bias", "fc1_gamma", "fc1_beta"}
    assert np.all(taken["pre_fc1_weight"].asnumpy() == 7) and np.all(taken["conv0_weight"].asnumpy() == 8)
    assert set(taken_averages) == {"fc1_moving_mean", "fc1_moving_var"}
    assert (
        "fc1_weight is pre_fc1_weight here, conv_first_weight is conv0_weight here; the checkpoints of this run have "
        "the name here"
    ) in caplog.text


@pytest.mark.parametrize(
    "old",
    [embedding("fc1_weight", act=""), embedding("fc1_weight", output="features")],
    ids=["another operator before it", "no embedding fc1"],
)
def test_names_of_another_graph_are_not_changed(tmp_path, old):
    checkpoint.save(str(tmp_path / "m"), 1, old, *parameters(old))
    with pytest.raises(UserError, match=r"is another network, \d+ parameters differ: found conv1_weight nowhere"):
        load_pretrained(f"{tmp_path}/m,1", with_head(embedding("pre_fc1_weight", "conv1")), SHAPE, INPUTS)


@ZOO_ONLY
def test_the_mobilefacenet_of_2018_is_taken(caplog):
    caplog.set_level("INFO")
    model, shape = os.path.join(MODEL_ZOO, "y1-test2", "model"), (2, 3, 112, 112)
    symbol = get_symbol("y1", 128, version_output="GDC")
    args, averages = load_pretrained(f"{model},0", symbol, shape, ["data"])
    assert "fc1_weight is pre_fc1_weight here; the checkpoints of this run" in caplog.text
    images = np.random.RandomState(0).randint(0, 256, shape).astype(np.float32)
    theirs, their_args, their_averages = checkpoint.load(model, 0)
    (expected,) = mxnet_runner(theirs, {**their_args, **their_averages}, shape)(images)
    (found,) = mxnet_runner(symbol, {**args, **averages}, shape)(images)
    assert np.array_equal(found, expected)


def test_class_weights_are_checked_if_asked_for():
    params = parameters(network(classes=7))
    check_parameters("here", params, network(), SHAPE, INPUTS)
    with pytest.raises(UserError, match=r"here is another network, 1 parameters differ: found fc7_weight \(7, 32\)"):
        check_parameters("here", params, network(), SHAPE, INPUTS, with_classes=True)


def global_statistics(symbol):
    nodes = json.loads(symbol.tojson())["nodes"]
    return {node["name"]: node.get("attrs", {}).get("use_global_stats") for node in nodes if node["op"] == "BatchNorm"}


@pytest.mark.parametrize(
    "patterns, frozen, fixed",
    [
        ("", [], None),
        ("conv0*", ["conv0_weight"], None),
        ("bn0_gamma,conv*", ["bn0_gamma", "conv0_weight"], "True"),
        ("bn0_beta", ["bn0_beta"], None),
        ("fc7*", ["fc7_weight"], None),  # the state fc7_beta is no parameter
    ],
)
def test_patterns_choose_the_frozen_parameters(patterns, frozen, fixed):
    symbol, names = freeze(network(), patterns, INPUTS)
    assert names == frozen
    assert global_statistics(symbol) == {"bn0": fixed}
    assert symbol.list_arguments() == network().list_arguments()


@pytest.mark.parametrize("pattern", ["conv1*", "data", "softmax_label"])
def test_a_pattern_without_a_parameter_is_refused(pattern):
    with pytest.raises(
        UserError, match=rf"--freeze {re.escape(pattern)}: no parameter has such a name; the names are conv0_weig"
    ):
        freeze(network(), f"conv0*,{pattern}", INPUTS)
