"""The networks against graphs recorded from the 2018 code on MXNet 1.9.1 (golden/symbols, see golden/record.py)."""

import dataclasses
import json
import math
import re

import pytest
from golden import record

from insightface_mx.base.compat import mx
from insightface_mx.options import NetworkOptions
from insightface_mx.symbols import NAMES, fnasnet, fresnet, get_initializer, get_symbol
from insightface_mx.symbols.parts import layers, symbol_utils
from insightface_mx.symbols.parts.variants import DEFAULTS
from insightface_mx.symbols.table import count_flops, count_moving_averages, count_parameters

CASES = sorted(record.FOLDER.glob("*.txt"))

PARAMETERS = {  # r98, r134 and r160 as in the recorded graphs
    "d121": 32716288,
    "d161": 81890400,
    "d169": 54303232,
    "d201": 66334208,
    "i2": 167723292,
    "m1": 28911616,
    "m2": 33970256,
    "mnas": 28639116,
    "n": 185884566,
    "p68": 93661152,
    "p92": 102488256,
    "p107": 151696128,
    "p131": 144035904,
    "r18": 24025600,
    "r34": 34139328,
    "r49": 43590848,
    "r50": 43590848,
    "r74": 55996864,
    "r90": 63677120,
    "r98": 71945408,
    "r99": 69584320,
    "r100": 65156160,
    "r101": 93955712,
    "r124": 124458880,
    "r134": 87897536,
    "r136": 86422080,
    "r140": 87013696,
    "r152": 109637760,
    "r160": 90857408,
    "r200": 114139264,
    "r269": 151602816,
    "s20": 24501952,
    "s36": 34606400,
    "s60": 47661504,
    "s64": 50021824,
    "s104": 73625024,
    "t50": 43586624,
    "t100": 65151936,
    "t101": 65151936,
    "t152": 70761536,
    "vargfacenet": 3794848,
    "x": 31005112,
    "y1": 13758848,
    "y2": 14685952,
    "y3": 14425728,
}


def shapes(symbol):
    """Shape of every variable of `symbol` and of its outputs, for two images."""
    arguments, outputs, auxiliary = symbol.infer_shape(data=record.BATCH)
    named = dict(zip(symbol.list_arguments(), arguments))
    named.update(zip(symbol.list_auxiliary_states(), auxiliary))
    return named, outputs


def parameters(symbol):
    """Number of values in all parameters."""
    named, _ = shapes(symbol)
    return sum(math.prod(named[name]) for name in symbol.list_arguments() if name != "data")


def count(symbol, operator):
    return sum(node["op"] == operator for node in json.loads(symbol.tojson())["nodes"])


def attribute(symbol, name, key):
    return symbol.get_internals()[f"{name}_output"].attr(key)


def test_no_recorded_case_is_missing():
    assert len(CASES) == 77


@pytest.mark.slow
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_graph_is_the_recorded_one(path):
    recorded = path.read_text()
    assert record.describe(recorded.partition("\n")[0]).split("\n") == recorded.split("\n")


def test_a_recorded_graph_shows_every_node_and_attribute():
    data, shared = mx.sym.Variable("data"), mx.sym.Variable("shared", lr_mult=2.0)
    body = mx.sym.Convolution(data, num_filter=4, kernel=(3, 3), bias=shared, name="a")
    body = mx.sym.Convolution(body, num_filter=4, kernel=(1, 1), bias=shared, name="b")
    body = mx.sym.FullyConnected(body, weight=mx.sym.Variable("w", wd_mult=0.0), num_hidden=2, no_bias=True, name="c")
    body = mx.sym.elemwise_add(mx.sym.LeakyReLU(body, act_type="prelu", name="d"), data.sum(name="e"), name="f")
    shapes = dict.fromkeys([*body.list_arguments(), *body.list_auxiliary_states()], (1, 2))
    assert record.node_lines(json.loads(body.tojson())["nodes"], shapes) == [
        "data (1, 2)",
        "Convolution a kernel=(3, 3) num_filter=4 <- data",
        "  _weight (1, 2)",
        "  shared (1, 2) only __lr_mult__=2.0",
        "b_weight (1, 2) kernel=(1, 1) num_filter=4",
        "Convolution b kernel=(1, 1) num_filter=4 <- a b_weight shared",
        "FullyConnected c no_bias=True num_hidden=2 <- b",
        "  w (1, 2) only __wd_mult__=0.0",
        "LeakyReLU d act_type=prelu <- c",
        '  _gamma (1, 2) __init__=["Constant", {"value": 0.25}]',
        "sum e <- data",
        "elemwise_add f <- d e",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("network", NAMES)
def test_every_network_has_its_exact_size_at_the_defaults(network):
    symbol = get_symbol(network, 512, **DEFAULTS)
    assert symbol.tojson() == get_symbol(network, 512).tojson()
    assert symbol.list_outputs() == ["fc1_output"]
    assert shapes(symbol)[1] == [(2, 512)]
    assert parameters(symbol) == PARAMETERS[network]


def test_the_papers_networks_have_their_convolutions():
    assert count(get_symbol("r50", 512), "Convolution") == 53
    assert count(get_symbol("r100", 512), "Convolution") == 103


@pytest.mark.slow
@pytest.mark.parametrize("version_se", [0, 1])
@pytest.mark.parametrize("version_input", [0, 1, 2])
@pytest.mark.parametrize(
    ("depth", "version_unit"), [*((18, unit) for unit in (1, 2, 3, 4)), *((101, unit) for unit in (1, 2, 3, 4, 5))]
)
def test_every_version_of_the_resnet_has_its_convolutions(depth, version_unit, version_input, version_se):
    versions = {"version_unit": version_unit, "version_input": version_input, "version_se": version_se}
    symbol = get_symbol(f"r{depth}", 512, **versions)
    units = sum(fresnet.UNITS[depth])
    in_a_unit = (3 if depth >= 101 else 2) + 2 * version_se
    projections = 0 if version_unit == 4 else 4
    assert count(symbol, "Convolution") == 1 + units * in_a_unit + projections
    assert shapes(symbol)[1] == [(2, 512)]
    stem = (64, 3, 7, 7) if version_input == 0 else (64, 3, 3, 3)
    assert shapes(symbol)[0]["conv0_weight"] == stem
    assert ("bn_data_gamma" in symbol.list_arguments()) == (version_input == 2)


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        (fresnet.residual_unit_v1, ["(2, 2)", "(1, 1)", "(1, 1)"]),
        (fresnet.residual_unit_v1_L, ["(1, 1)", "(1, 1)", "(2, 2)"]),
        (fresnet.residual_unit_v2, ["(1, 1)", "(2, 2)", "(1, 1)"]),
        (fresnet.residual_unit_v3, ["(1, 1)", "(1, 1)", "(2, 2)"]),
        (fresnet.residual_unit_v4, ["(1, 1)", "(1, 1)", "(2, 2)"]),
        (fresnet.residual_unit_v3_x, ["(1, 1)", "(1, 1)", "(2, 2)"]),
    ],
)
def test_bottleneck_units_stride_where_they_should(unit, expected):
    symbol = unit(mx.sym.Variable("data"), 64, (2, 2), False, "u", True)
    assert [attribute(symbol, f"u_conv{i}", "stride") for i in (1, 2, 3)] == expected


@pytest.mark.parametrize(("bottle_neck", "branch_end"), [(False, "u_bn3"), (True, "u_bn4")])
def test_v4_is_v3_with_no_shortcut_where_the_dimension_changes(bottle_neck, branch_end):
    data = mx.sym.Variable("data")
    with mx.name.NameManager():
        whole = fresnet.residual_unit_v3(data, 64, (2, 2), False, "u", bottle_neck)
    changing = fresnet.residual_unit_v4(data, 64, (2, 2), False, "u", bottle_neck)
    assert changing.tojson() == whole.get_internals()[f"{branch_end}_output"].tojson()
    with mx.name.NameManager():
        v3 = fresnet.residual_unit_v3(data, 64, (1, 1), True, "u", bottle_neck)
    with mx.name.NameManager():
        v4 = fresnet.residual_unit_v4(data, 64, (1, 1), True, "u", bottle_neck)
    assert v4.tojson() == v3.tojson()


def test_v3_x_has_32_groups_and_half_the_width_inside():
    named, _ = shapes(get_symbol("r101", 512, version_unit=5))
    assert named["stage2_unit2_conv1_weight"] == (256, 512 // 32, 1, 1)
    assert named["stage2_unit2_conv2_weight"] == (256, 256 // 32, 3, 3)
    assert named["stage2_unit2_conv3_weight"] == (512, 256, 1, 1)


@pytest.mark.parametrize("version_act", ["relu", "sigmoid", "softrelu", "softsign", "tanh"])
def test_version_act_replaces_the_activations_of_the_body_only(version_act):
    prelu = get_symbol("r18", 512, version_output="GAP")
    other = get_symbol("r18", 512, version_output="GAP", version_act=version_act)
    assert count(prelu, "LeakyReLU") == 10
    assert count(other, "Activation") == 9
    assert attribute(other, "stage1_unit1_relu1", "act_type") == version_act
    assert attribute(other, "relu1", "act_type") == "prelu"


@pytest.mark.slow
@pytest.mark.parametrize("version_output", symbol_utils.HEADS)
@pytest.mark.parametrize(("network", "channels"), [("r18", 512), ("r101", 2048), ("m1", 1024), ("y1", 512)])
def test_every_output_fits_every_number_of_channels(network, channels, version_output):
    output = {"Z": (2, channels, 7, 7), "A": (2, channels), "AX": (2, channels)}.get(version_output, (2, 128))
    assert shapes(get_symbol(network, 128, version_output=version_output))[1] == [output]


def test_gnap_takes_the_real_number_of_channels():
    assert attribute(get_symbol("r101", 512, version_output="GNAP"), "tile0", "reps") == "(1, 2048, 1, 1)"
    half = get_symbol("m1", 640, version_output="GNAP", version_multiplier=0.5)
    assert shapes(half)[0]["convx_weight"] == (640, 512, 1, 1)


def test_the_multiplier_scales_every_layer_of_mobilenet():
    named, _ = shapes(get_symbol("m1", 512, version_multiplier=0.5))
    assert named["conv_1_conv2d_weight"] == (16, 3, 3, 3)
    assert named["conv_2_dw_conv2d_weight"] == (16, 1, 3, 3)
    assert named["conv_14_conv2d_weight"] == (512, 512, 1, 1)


def test_the_multiplier_widens_mobilefacenet_between_its_blocks():
    """Like arcface_torch's MobileFaceNet with scale=2: 0.44 G multiplications."""
    wide = get_symbol("y1", 512, version_output="GDC", version_multiplier=2.0)
    named, _ = shapes(wide)
    assert named["conv_1_conv2d_weight"] == (128, 3, 3, 3)
    assert named["conv_2_dw_conv2d_weight"] == (128, 2, 3, 3)
    assert named["res_4_block0_conv_sep_conv2d_weight"] == (256, 256, 1, 1)
    assert named["dconv_45_conv_dw_conv2d_weight"] == (512, 1, 3, 3)
    assert named["conv_6sep_conv2d_weight"] == (512, 256, 1, 1)
    assert count_parameters(wide) == 2060032
    assert round(count_flops(wide) / 2e9, 3) == 0.435
    assert get_symbol("y1", 512, version_multiplier=1.0).tojson() == get_symbol("y1", 512).tojson()


def test_y2_has_2_8_16_4_blocks():
    names = get_symbol("y2", 512, version_output="GDC").list_arguments()
    residual = [name.split("_block")[0] for name in names if name.endswith("_conv_proj_conv2d_weight")]
    blocks = [residual.count(f"res_{stage}") for stage in (2, 3, 4, 5)]
    assert blocks == [2, 8, 16, 4]
    assert "conv_2_dw_conv2d_weight" not in names


@pytest.mark.parametrize(
    ("network", "scale", "parameters", "averages"),
    [("y1", 2.0, 2060032, 23808), ("y3", 2.0, 3350400, 40448), ("y3", 4.0, 6315392, 52736)],
)
def test_arcface_torchs_mobilefacenets_by_blocks_and_scale(network, scale, parameters, averages):
    """get_mbf; its scale with the blocks of get_mbf_large, 13.6 MB of float32; get_mbf_large."""
    symbol = get_symbol(network, 512, version_output="GDC", version_multiplier=scale)
    assert count_parameters(symbol) == parameters
    assert count_moving_averages(symbol) == averages
    residual = [name for name in symbol.list_arguments() if re.match(r"res_\d_block\d+_conv_proj_conv2d_weight", name)]
    assert len(residual) == (12 if network == "y1" else 2 + 8 + 12 + 4)


def test_the_first_blocks_of_y3_have_128_channels_inside():
    named, _ = shapes(get_symbol("y3", 512, version_output="GDC", version_multiplier=4.0))
    assert named["res_2_block1_conv_sep_conv2d_weight"] == (128, 256, 1, 1)
    assert named["res_5_block3_conv_proj_conv2d_weight"] == (512, 256, 1, 1)


def test_images_of_another_size_are_fine_where_the_output_allows():
    assert get_symbol("r18", 512, version_input=0, version_output="GDC", image_size=(224, 224)).name == "fc1"


@pytest.mark.parametrize(
    ("network", "options", "says"),
    [
        ("r51", {}, "network 'r51' does not exist: choose from .*r50, r74"),
        ("q50", {}, "network 'q50' does not exist: choose from .*r18"),
        ("r", {}, "network 'r' does not exist"),
        ("r18", {"version_unit": 6}, "version_unit 6 does not exist: choose from 1, 2, 3, 4, 5$"),
        ("r18", {"version_input": 3}, "version_input 3 does not exist: choose from 0, 1, 2$"),
        ("m1", {"version_input": 2}, "version_input 2 does not exist: choose from 0, 1$"),
        ("r18", {"version_se": 2}, "version_se 2 does not exist: choose from 0, 1$"),
        ("r18", {"version_act": "swish"}, "version_act 'swish' does not exist: choose from prelu, relu"),
        ("r50", {"version_family": 2021}, "r50 is the same network in 2018 and 2021 with these options"),
        ("y1", {"version_family": 2021}, "y1 is the same network in 2018 and 2021"),
        ("r18", {"version_family": 2021, "version_act": "relu"}, "r18 is the same network in 2018 and 2021"),
        ("s20", {"version_family": 2021}, "the code of 2021 has no network s20: leave version_family at 2018"),
        ("r101", {"version_family": 2019}, "version_family 2019 does not exist: choose from 2018, 2021"),
        ("r101", {"version_family": 2021, "version_unit": 5}, "only r101, r124, r152, r200, r269 of 2018 have them"),
        ("d121", {"version_family": 2021, "version_input": 0}, "fdensenet does not use version_input"),
        ("d121", {"densenet_dropout": 0.2}, "fdensenet does not use densenet_dropout: leave it at 0.0"),
        ("y1", {"version_act": "relu"}, "version_act 'relu' is of the code of 2021 in this network"),
        ("m1", {"version_act": "relu"}, "version_act 'relu' is of the code of 2021 in this network"),
        ("y1", {"version_blocks": "1,4,6"}, "version_blocks 1,4,6: give 4 whole numbers above 0"),
        ("y1", {"version_blocks": "1,4,0,2"}, "version_blocks 1,4,0,2: give 4 whole numbers"),
        ("r18", {"version_blocks": "1,4,6,2"}, "fresnet does not use version_blocks"),
        ("vargfacenet", {"version_multiplier": 1.1}, "groups of other than 8 channels: choose a multiple of 0.25"),
        ("mnas", {"version_multiplier": 0.01}, "at least 1/16"),
        ("p92", {"version_output": "SFC"}, "version_output SFC needs a multiple of 512 channels"),
        ("r18", {"version_output": "EX"}, "version_output 'EX' does not exist: choose from E, F"),
        ("r18", {"version_output": "AXE"}, "version_output 'AXE' does not exist"),
        ("r18", {"version_unit": 5}, "only r101, r124, r152, r200, r269 of 2018 have them"),
        ("m1", {"version_multiplier": 0.01}, "at least 1/32"),
        ("y1", {"version_multiplier": 0.01}, "at least 1/64"),
        ("m1", {"version_multiplier": 0.25, "version_output": "GDC"}, "multiple of 512 channels, this network has 256"),
        ("s20", {"version_output": "GDC"}, "spherenet does not use version_output: leave it at 'E'"),
        (
            "y2",
            {"version_se": 1},
            r"does not use version_se: leave it at 0 \(it uses: version_output, version_act, version_multiplier, "
            r"version_blocks, version_family, bn_mom\)",
        ),
        ("r18", {"version_input": 0, "version_output": "GDC"}, "cannot take 112x112 images.*map of at least 7x7"),
        ("r18", {"image_size": (112, 96), "version_output": "GDC"}, "cannot take 112x96 images"),
    ],
)
def test_what_does_not_exist_is_a_value_error_that_says_what_does(network, options, says):
    with pytest.raises(ValueError, match=says):
        get_symbol(network, 512, **options)


@pytest.mark.parametrize(
    ("unit", "options"),
    [
        (fresnet.residual_unit_v3, {}),
        (fresnet.residual_unit_v3, {"version_se": 1, "version_act": "relu", "bn_mom": 0.8, "workspace": 128}),
    ],
)
def test_a_residual_unit_is_called_as_in_the_original(unit, options):
    """Six positional arguments, then options by name."""
    symbol = unit(mx.sym.Variable("data"), 64, (2, 2), False, "u", False, **options)
    _, (shape,), _ = symbol.infer_shape(data=(1, 32, 8, 8))
    assert shape == (1, 64, 4, 4)
    assert attribute(symbol, "u_bn1", "momentum") == str(options.get("bn_mom", 0.9))
    assert attribute(symbol, "u_conv1", "workspace") == str(options.get("workspace", 256))
    assert count(symbol, "Activation") == (3 if options else 0)


def test_an_unknown_keyword_is_no_option():
    with pytest.raises(TypeError, match="version_inpt"):
        get_symbol("r18", 512, version_inpt=1)


def test_batch_norm_momentum_reaches_every_batch_norm():
    symbol = get_symbol("r18", 512, bn_mom=0.8, version_output="GNAP")
    nodes = [node for node in json.loads(symbol.tojson())["nodes"] if node["op"] == "BatchNorm"]
    assert {node["attrs"]["momentum"] for node in nodes} == {"0.8"}


def test_generated_names_do_not_depend_on_what_was_built_before():
    first = get_symbol("r18", 512, version_output="GNAP").tojson()
    mx.sym.Flatten(mx.sym.Variable("x") + 1)
    assert get_symbol("r18", 512, version_output="GNAP").tojson() == first


@pytest.mark.slow
@pytest.mark.parametrize(("network", "channels"), [("m2", 1280), ("n", 4032)])
def test_outputs_of_networks_of_gluon_layers(network, channels):
    assert shapes(get_symbol(network, 128, version_output="Z"))[1] == [(2, channels, 7, 7)]
    assert shapes(get_symbol(network, 128, version_output="GNAP"))[1] == [(2, 128)]


@pytest.mark.slow
def test_names_of_gluon_layers_do_not_depend_on_what_was_built_before():
    first = fnasnet.get_symbol(512).tojson()
    assert fnasnet.get_symbol(512).tojson() == first


@pytest.mark.parametrize(
    ("network", "rnd_type", "factor_type"),
    [
        *((network, "gaussian", "out") for network in ("r50", "y1")),
        *((network, "gaussian", "in") for network in ("i2", "x")),
        *(
            (network, "uniform", "in")
            for network in ("d121", "m1", "m2", "mnas", "n", "p92", "s20", "t50", "vargfacenet")
        ),
    ],
)
def test_initializer_follows_the_letter(network, rnd_type, factor_type):
    expected = ["xavier", {"rnd_type": rnd_type, "factor_type": factor_type, "magnitude": 2}]
    assert json.loads(get_initializer(network).dumps()) == expected


def test_help_lists_all_outputs_and_activations():
    helps = {field.name: field.metadata["help"] for field in dataclasses.fields(NetworkOptions)}
    assert helps["version_output"].partition(": ")[2].partition(";")[0].split() == list(symbol_utils.HEADS)
    assert helps["version_act"].partition(": ")[2].split() == list(layers.ACTIVATIONS)
