"""The networks of InsightFace's MXNet code of 2019 to 2021, by their rules; their graphs are in golden/symbols."""

import gzip
import json

import pytest
from golden import compare

from insightface_mx import symbols
from insightface_mx.base.errors import UserError
from insightface_mx.options import SoftmaxOptions, parser, read
from insightface_mx.symbols import fresnet, from_config, get_symbol
from insightface_mx.symbols.table import count_parameters

MOBILE = {"net_name": "fmobilefacenet"}
DENSE = {"net_name": "fdensenet", "num_layers": 121}
VARG = {"net_name": "vargfacenet", "net_output": "J"}


def shapes(symbol):
    arguments, outputs, _ = symbol.infer_shape(data=(2, 3, 112, 112))
    return dict(zip(symbol.list_arguments(), arguments)), outputs


def operators(symbol, prefix=""):
    return [node["op"] for node in json.loads(symbol.tojson())["nodes"] if node["name"].startswith(prefix)]


@pytest.mark.parametrize(
    ("config", "network", "options"),
    [
        ({"num_layers": 50}, "r50", {}),
        ({"num_layers": 100, "net_output": "FC", "emb_size": 128}, "r100", {"version_output": "FC"}),
        ({"num_layers": 18, "net_se": 1, "net_unit": 1, "net_input": 0}, "r18", {}),
        ({"num_layers": 124}, "r124", {"version_family": 2021}),
        ({"num_layers": 18, "net_act": "relu"}, "r18", {"version_act": "relu"}),
        (MOBILE, "y1", {}),
        ({**MOBILE, "net_blocks": [2, 8, 16, 4]}, "y2", {}),
        ({**MOBILE, "net_blocks": (1, 2, 3, 1)}, "y1", {"version_blocks": "1,2,3,1"}),
        ({"net_name": "fmobilenet", "net_multiplier": 0.5}, "m1", {"version_multiplier": 0.5}),
        ({"net_name": "fmnasnet", "net_multiplier": 0.25}, "mnas", {"version_multiplier": 0.25}),
        ({**VARG, "net_multiplier": 1.0}, "vargfacenet", {"version_output": "J"}),
        (DENSE, "d121", {"version_family": 2021}),
    ],
)
def test_a_configuration_is_a_network_with_options(config, network, options):
    versions = {
        **options,
        **{f"version_{key}": config[f"net_{key}"] for key in ("se", "unit", "input") if f"net_{key}" in config},
    }
    expected = get_symbol(network, config.get("emb_size", 512), **versions)
    assert from_config(config).tojson() == expected.tojson()


@pytest.mark.parametrize("depth", fresnet.BOTTLENECK)
def test_the_deep_residual_networks_of_2021_have_basic_units(depth):
    later, _ = shapes(get_symbol(f"r{depth}", 512, version_family=2021))
    bottleneck, _ = shapes(get_symbol(f"r{depth}", 512))
    assert later["stage4_unit2_conv2_weight"] == (512, 512, 3, 3)
    assert bottleneck["stage4_unit2_conv2_weight"] == (512, 512, 3, 3)
    assert "stage4_unit2_conv3_weight" in bottleneck
    assert "stage4_unit2_conv3_weight" not in later
    for stage, units in enumerate(fresnet.UNITS[depth], 1):
        assert f"stage{stage}_unit{units}_conv1_weight" in later
        assert f"stage{stage}_unit{units + 1}_conv1_weight" not in later


def test_a_network_of_2021_alone_may_say_so():
    for network in ("r98", "mnas", "vargfacenet"):
        assert get_symbol(network, 64, version_family=2021).tojson() == get_symbol(network, 64).tojson()
    assert set(symbols.networks.LATER) == {
        "mnas",
        "vargfacenet",
        *(f"r{depth}" for depth in (98, 99, 134, 136, 140, 160)),
    }


def test_the_activation_reaches_the_output_layers_in_2021_only():
    options = {"version_act": "relu", "version_output": "GAP"}
    assert operators(get_symbol("r18", 64, **options), "relu1")[-1] == "LeakyReLU"
    assert operators(get_symbol("r18", 64, version_family=2021, **options), "relu1") == ["Activation"]
    assert "LeakyReLU" not in operators(get_symbol("y1", 64, version_family=2021, **options))
    assert "LeakyReLU" not in operators(get_symbol("mnas", 64, **options))


def test_fc_is_e_without_dropout():
    with_dropout = operators(get_symbol("r18", 512))
    assert operators(get_symbol("r18", 512, version_output="FC")) == [op for op in with_dropout if op != "Dropout"]


def test_sfc_halves_the_map_before_the_dense_layer():
    named, outputs = shapes(get_symbol("r18", 128, version_output="SFC"))
    assert outputs == [(2, 128)]
    assert named["convf_weight"] == (512, 1, 3, 3)
    assert named["convf2_weight"] == (512, 512, 1, 1)
    assert named["pre_fc1_weight"] == (128, 512 * 4 * 4)


@pytest.mark.parametrize("multiplier", [0.25, 0.5, 1.0])
def test_the_multiplier_of_mnasnet_scales_every_layer(multiplier):
    options = {"version_multiplier": multiplier, "version_output": "GDC"}
    named, outputs = shapes(get_symbol("mnas", 256, **options))
    assert outputs == [(2, 256)]
    assert named["mnasnet0_stage1_conv0_conv0_weight"] == (32 * multiplier, 3, 3, 3)
    assert named["mnasnet0_stage5_2_expandedconv0_expand_conv0_weight"] == (1152 * multiplier, 192 * multiplier, 1, 1)
    assert named["conv_6dw7_7_conv2d_weight"] == (1024 * multiplier, 1, 7, 7)


@pytest.mark.parametrize(("multiplier", "groups"), [(0.5, 2), (1.0, 4), (1.25, 5), (2.0, 8)])
def test_every_group_of_vargfacenet_has_8_channels(multiplier, groups):
    symbol = get_symbol("vargfacenet", 128, version_multiplier=multiplier, version_output="J")
    named, outputs = shapes(symbol)
    assert outputs == [(2, 128)]
    grouped = [shape for name, shape in named.items() if name.endswith("conv2d_depthwise_weight")]
    assert {shape[1:] for shape in grouped} == {(8, 3, 3)}
    assert len(grouped) == 3 + 3 * 4 + 2 * (2 + 6 + 3)
    node = symbol.get_internals()["vargface_stage_2_unit_1_shortcut_conv2d_depthwise_output"]
    assert node.attr("num_group") == str(groups)
    assert named["embed_convx_weight"] == (1024, 256 * multiplier, 1, 1)
    assert named["embed_convx_pointwise_weight"] == (512, 1024, 1, 1)


@pytest.mark.slow
def test_dropout_and_activation_of_gluons_densenet():
    plain = from_config(DENSE)
    other = from_config({**DENSE, "densenet_dropout": 0.2, "net_act": "tanh"})
    assert operators(plain).count("LeakyReLU") == 2 * (6 + 12 + 24 + 16) + 3
    assert operators(other).count("Activation") == operators(plain).count("LeakyReLU") + 2
    assert operators(other).count("Dropout") == 58 + operators(plain).count("Dropout")
    assert other.get_internals()["densenet0_stage4_dropout15_fwd_output"].attr("p") == "0.2"
    assert "densenet0_stage1_tanh11_fwd_output" in other.get_internals().list_outputs()
    relu = from_config({**DENSE, "net_act": "relu"}).get_internals().list_outputs()
    assert [name for name in relu if name.startswith("densenet0_relu")] == [
        f"densenet0_relu{i}_fwd_output" for i in range(5)
    ]


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"num_layers": 51}, "network 'r51' does not exist"),
        ({}, "num_layers is missing, the depth of fresnet"),
        ({"net_name": "fresnext", "num_layers": 50}, "net_name 'fresnext' does not exist: choose from fresnet, fdens"),
        ({"num_layer": 50}, r"there is no key 'num_layer' in the configuration .*similar keys: num_layers"),
        ({**MOBILE, "net_blocks": [1, 4, 6]}, "version_blocks 1,4,6: give 4"),
        ({"num_layers": 50, "net_output": "Q"}, "version_output 'Q' does not exist"),
    ],
)
def test_a_configuration_that_means_no_network(config, says):
    with pytest.raises(ValueError, match=says):
        from_config(config)


def test_a_key_without_effect_is_said(caplog):
    wide = from_config({**MOBILE, "net_multiplier": 2.0, "net_se": 1, "per_batch_size": 64})
    assert wide.tojson() == get_symbol("y1", 512).tojson()
    assert caplog.messages == ["net_multiplier, net_se has no effect on y1, as in the original"]


def given(tmp_path, config, *words):
    (tmp_path / "c.json").write_text(json.dumps(config))
    made = parser(SoftmaxOptions, "Train.", "train")
    return read(made.parse_args(["--config", str(tmp_path / "c.json"), *words]), SoftmaxOptions)


def test_config_takes_the_keys_of_that_code(tmp_path):
    config = {**DENSE, "densenet_dropout": 0.1, "per_batch_size": 64, "val_targets": ["lfw", "cfp_fp"], "data_color": 1}
    options = given(
        tmp_path, {**config, "data_rand_mirror": True, "ce_loss": True, "workspace": 256}, "--emb-size", "64"
    )
    assert options.network.network == "d121"
    assert (options.network.version_family, options.network.densenet_dropout, options.network.emb_size) == (
        2021,
        0.1,
        64,
    )
    assert (options.data.per_batch_size, options.data.target, options.data.color) == (64, "lfw,cfp_fp", 1)
    assert (options.data.rand_mirror, options.loss.ce_loss) == (1, True)
    same = given(tmp_path, {"net_name": "fresnet", "num_layers": 50, "net_output": "FC"}).network
    assert (same.network, same.version_output, same.version_family) == ("r50", "FC", 2018)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({**MOBILE, "net_se": 1}, "y1 does not use net_se: leave it out"),
        ({"num_layers": 50, "network": "r18"}, "there is no key 'network' in the configuration of InsightFace's MXNet"),
        ({"num_layers": 51}, "network 'r51' does not exist"),
        ({"num_layers": 50, "per_batch_size": "many"}, "per_batch_size: 'many' is not"),
    ],
)
def test_config_names_the_file_of_that_code_and_what_is_wrong(tmp_path, config, says):
    with pytest.raises(UserError, match=f"^--config {tmp_path}/c.json: {says}"):
        given(tmp_path, config)


def test_graphs_are_compared_node_by_node(tmp_path, capsys):
    config = {"net_name": "fmnasnet", "net_multiplier": 0.5}
    right = {"module": "fmnasnet", "config": {"net_multiplier": 0.5}, "nodes": compare.nodes(from_config(config))}
    wrong = {**right, "config": {}}
    old = {"get_symbol": ["fresnet", [64, 18]], "nodes": compare.nodes(get_symbol("r18", 64))}
    path = tmp_path / "graphs.json.gz"
    with gzip.open(path, "wt") as file:
        json.dump({"right": right, "wrong": wrong, "old": old}, file)
    assert compare.main(str(path)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "right: equal"
    assert "'__shape__': '(32, 0, 3, 3)'" in lines[1]
    assert lines[2:] == ["old: equal", "2 of 3 graphs are equal"]


def test_vargfacenet_has_about_5_million_parameters():
    """As in the paper: 5.0 M, 1.0 G multiplications, at multiplier 1.25."""
    assert count_parameters(get_symbol("vargfacenet", 512, version_multiplier=1.25, version_output="J")) == 4957512


@pytest.mark.parametrize("version_family", [2018, 2021])
@pytest.mark.parametrize("version_se", [0, 1])
@pytest.mark.parametrize("version_unit", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("depth", [18, 101])
def test_layers_are_counted_without_building(depth, version_unit, version_se, version_family):
    versions = {"version_unit": version_unit, "version_se": version_se, "version_family": version_family}
    counted = fresnet.count_layers(depth, **versions)
    if version_unit == 5 and (depth, version_family) != (101, 2018):
        assert counted == 0
        return
    built = operators(fresnet.get_symbol(64, depth, **versions))
    assert counted == sum(operator in ("Convolution", "FullyConnected") for operator in built)


@pytest.mark.slow
def test_the_names_that_differ_are_those_of_both_codes_with_other_graphs():
    both = [name for name, (family, _) in symbols.NAMES.items() if family.later and name not in symbols.networks.LATER]
    small = [name for name in both if name[0] != "r" or int(name[1:]) < 102]
    expected = [name for name in small if symbols.networks.family_of(name, 64, {}) == 2021]
    assert [name for name in small if name in symbols.networks.DIFFERING] == expected
    assert len(symbols.networks.DIFFERING) == 4 + 5
