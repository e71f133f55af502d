"""The networks of InsightFace_TF, by the rules that set them apart from fresnet."""

import json

import numpy as np
import pytest

from insightface_mx.base.compat import mx
from insightface_mx.symbols import get_symbol

VERSIONS = [{}, {"version_se": 1}, {"version_multiplier": 4.0}, {"version_se": 1, "version_multiplier": 4.0}]
UNITS = {"t50": (3, 4, 14, 3), "t100": (3, 13, 30, 3), "t101": (3, 13, 30, 3), "t152": (3, 8, 36, 3)}


def nodes(network="t50", **versions):
    """The operators of a network by name: (operator, attributes, names of the inputs that are no parameters)."""
    listed = json.loads(get_symbol(network, 512, **versions).tojson())["nodes"]
    return {
        node["name"]: (
            node["op"],
            node.get("attrs", {}),
            [listed[i]["name"] for i, *_ in node["inputs"] if listed[i]["op"] != "null" or listed[i]["name"] == "data"],
        )
        for node in listed
        if node["op"] != "null"
    }


def path(graph, name, length):
    """Operators from node `name` back along the first inputs."""
    operators = []
    for _ in range(length):
        operator, _, inputs = graph[name]
        operators.append(operator)
        name = inputs[0]
    return operators


def shapes(**versions):
    symbol = get_symbol("t50", 512, **versions)
    arguments, _, _ = symbol.infer_shape(data=(2, 3, 112, 112))
    return dict(zip(symbol.list_arguments(), arguments))


@pytest.mark.parametrize("network", UNITS)
def test_units_of_each_depth(network):
    graph = nodes(network)
    for stage, units in enumerate(UNITS[network], 1):
        strides = [graph[f"stage{stage}_unit{unit + 1}_conv2"][1]["stride"] for unit in range(units)]
        assert strides == ["(2, 2)"] + ["(1, 1)"] * (units - 1)
        assert f"stage{stage}_unit{units + 1}_conv2" not in graph


def test_shortcut_keeps_the_channels_it_can_keep():
    graph = nodes()
    pooled = graph["stage1_unit1_pool1sc"]
    assert pooled == ("Pooling", {"kernel": "(1, 1)", "pool_type": "max", "stride": "(2, 2)"}, ["relu0"])
    assert not [name for name in graph if name.startswith("stage1") and name.endswith("sc") and "pool" not in name]
    for stage in (2, 3, 4):
        operator, attrs, _ = graph[f"stage{stage}_unit1_conv1sc"]
        assert (operator, attrs["kernel"], attrs["stride"]) == ("Convolution", "(1, 1)", "(2, 2)")
        assert graph[f"stage{stage}_unit1_sc"][0] == "BatchNorm"
    assert sum(name.endswith("conv1sc") for name in graph) == 3


def test_wide_units_project_the_first_stage_too():
    graph = nodes(version_multiplier=4.0)
    assert sum(name.endswith("conv1sc") for name in graph) == 4
    assert not any(name.endswith("pool1sc") for name in graph)


@pytest.mark.parametrize("versions", VERSIONS)
def test_no_activation_after_the_sum_but_with_squeeze_excite(versions):
    graph = nodes(**versions)
    (inside,) = graph["stage2_unit2_bn1"][2]
    if "version_se" not in versions:
        assert path(graph, inside, 2) == ["elemwise_add", "BatchNorm"]
        return
    assert graph[inside][:2] == ("Activation", {"act_type": "relu"})
    assert path(graph, inside, 4) == ["Activation", "elemwise_add", "broadcast_mul", "BatchNorm"]
    (end,) = graph["bn1"][2]
    assert end == "stage4_unit3_relu2"


def test_residual_branch_is_bn_conv_bn_prelu_conv_bn():
    graph = nodes()
    expected = ["BatchNorm", "Convolution", "LeakyReLU", "BatchNorm", "Convolution", "BatchNorm"]
    assert path(graph, "stage2_unit1_bn3", 6) == expected
    assert graph["stage2_unit1_conv1"][1]["stride"] == "(1, 1)"
    assert [graph[f"stage2_unit1_conv{i}"][1]["pad"] for i in (1, 2)] == ["(1, 1)", "(1, 1)"]


@pytest.mark.parametrize("width", [1.0, 4.0])
def test_inner_filters_stay_and_the_width_follows_the_multiplier(width):
    named = shapes(version_multiplier=width, version_se=1)
    for stage, inner in enumerate((64, 128, 256, 512), 1):
        outer = int(inner * width)
        assert named[f"stage{stage}_unit2_conv1_weight"] == (inner, outer, 3, 3)
        assert named[f"stage{stage}_unit2_conv2_weight"] == (outer, inner, 3, 3)
        assert named[f"stage{stage}_unit2_se_conv1_weight"] == (outer // 16, outer, 1, 1)
        assert named[f"stage{stage}_unit2_se_conv2_bias"] == (outer,)


def test_squeeze_excite_is_relu_then_sigmoid():
    graph = nodes(version_se=1)
    assert graph["stage1_unit1_se_relu1"][1] == {"act_type": "relu"}
    assert graph["stage1_unit1_se_sigmoid"][1] == {"act_type": "sigmoid"}


def test_batch_norms_are_all_alike():
    attrs = [attrs for operator, attrs, _ in nodes().values() if operator == "BatchNorm"]
    assert all(attr == {"eps": "2e-05", "fix_gamma": "False", "momentum": "0.9"} for attr in attrs)
    assert len(attrs) == 1 + 24 * 3 + 3 + 2


@pytest.mark.slow
def test_the_embedding_is_a_dense_layer_over_rows_columns_channels():
    assert path(nodes(), "fc1", 5) == ["BatchNorm", "FullyConnected", "transpose", "Dropout", "BatchNorm"]
    internals = get_symbol("t50", 4).get_internals()
    last = mx.sym.Group([internals["dropout0_output"], internals["pre_fc1_output"]])
    executor = last.simple_bind(mx.cpu(), grad_req="null", data=(2, 3, 32, 32))
    generator = np.random.RandomState(0)
    for array in executor.arg_arrays:
        array[:] = generator.randn(*array.shape)
    feature_map, embedding = (output.asnumpy() for output in executor.forward(is_train=True))
    assert feature_map.shape == (2, 512, 2, 2)
    rows = feature_map.transpose(0, 2, 3, 1).reshape(2, -1)
    weight, bias = (executor.arg_dict[f"pre_fc1_{part}"].asnumpy() for part in ("weight", "bias"))
    assert np.isfinite(embedding).all()
    assert np.allclose(embedding, rows @ weight.T + bias, rtol=1e-3, atol=1e-3)


def test_a_width_between_does_not_exist():
    with pytest.raises(ValueError, match=r"version_multiplier 2.0 does not exist: choose from 1.0, 4.0"):
        get_symbol("t50", 512, version_multiplier=2.0)
