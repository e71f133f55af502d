"""DenseNet, DPN, Inception-ResNet-v2 and Xception: their versions, and what no recorded graph shows."""

import pytest

from insightface_mx.symbols import fdpn, get_symbol
from insightface_mx.symbols.parts import symbol_utils
from insightface_mx.symbols.parts.variants import DENSENET_BLOCKS
from insightface_mx.symbols.table import count_parameters

MAPS = {  # network: channels of the last map, and its side by version_input
    "d121": (1024, {0: 3, 1: 7}),
    "d161": (2208, {0: 3, 1: 7}),
    "i2": (1536, {0: 5, 1: 12}),
    "p68": (2368, {0: 4, 1: 7}),
    "p107": (2688, {0: 4, 1: 7}),
    "x": (1024, {0: 4, 1: 7}),
}
WITHOUT_EMBEDDING = ("Z", "A", "AX")


def shapes(network, **versions):
    symbol = get_symbol(network, 512, **versions)
    arguments, outputs, _ = symbol.infer_shape(data=(2, 3, 112, 112))
    return dict(zip(symbol.list_arguments(), arguments)), outputs


@pytest.mark.slow
@pytest.mark.parametrize("version_input", [0, 1])
@pytest.mark.parametrize("network", MAPS)
def test_every_output_fits_every_version_but_those_in_groups(network, version_input):
    channels, side = MAPS[network][0], MAPS[network][1][version_input]
    assert shapes(network, version_input=version_input, version_output="Z")[1] == [(2, channels, side, side)]
    for output in set(symbol_utils.HEADS) - {"Z", "GDC", "SFC"}:
        length = channels if output in WITHOUT_EMBEDDING else 512
        assert shapes(network, version_input=version_input, version_output=output)[1] == [(2, length)]


@pytest.mark.parametrize("version_input", [0, 1])
@pytest.mark.parametrize("network", MAPS)
def test_gdc_needs_its_groups_and_a_map_of_7x7(network, version_input):
    channels, sides = MAPS[network]
    versions = {"version_input": version_input, "version_output": "GDC"}
    if channels % 512:
        with pytest.raises(ValueError, match=f"multiple of 512 channels, this network has {channels}"):
            get_symbol(network, 512, **versions)
    elif sides[version_input] < 7:
        with pytest.raises(ValueError, match="cannot take 112x112 images"):
            get_symbol(network, 512, **versions)
    else:
        assert shapes(network, **versions)[1] == [(2, 512)]


@pytest.mark.parametrize("network", MAPS)
def test_version_input_2_is_1_and_3_is_none(network):
    assert get_symbol(network, 512, version_input=2).tojson() == get_symbol(network, 512, version_input=1).tojson()
    with pytest.raises(ValueError, match=r"version_input 3 does not exist: choose from 0, 1, 2$"):
        get_symbol(network, 512, version_input=3)


@pytest.mark.parametrize(
    ("network", "first", "inner"),
    [("d121", 64, 64), ("d161", 96, 64), ("p92", 128, 64), ("p131", 128, 64)],
)
def test_the_first_convolution_is_wide_only_on_a_small_map(network, first, inner):
    assert shapes(network, version_input=0)[0]["conv0_weight"] == (first, 3, 7, 7)
    named, _ = shapes(network)
    assert named["conv0_weight"] == (inner, 3, 3, 3)
    assert named["head_conv2_weight"] == (inner, inner, 3, 3)


@pytest.mark.parametrize(("depth", "widths"), [(121, (128, 256, 512)), (161, (192, 384, 1056)), (201, (128, 256, 896))])
@pytest.mark.parametrize("version_input", [0, 1])
def test_densenet_halves_the_channels_of_its_paper_between_blocks(depth, widths, version_input):
    named, _ = shapes(f"d{depth}", version_input=version_input)
    assert tuple(named[f"TBstage{i}_conv1_weight"][0] for i in (1, 2, 3)) == widths
    for stage, units in enumerate(DENSENET_BLOCKS[depth][1], 1):
        assert f"DBstage{stage}_unit{units}_conv2_weight" in named
        assert f"DBstage{stage}_unit{units + 1}_conv2_weight" not in named


@pytest.mark.parametrize("depth", fdpn.DEPTHS)
def test_dual_paths_have_the_widths_of_their_table(depth):
    named, _ = shapes(f"p{depth}")
    for stage in range(4):
        width, inner = 256 * 2**stage, fdpn.DEPTHS[depth].inner * 2**stage
        growth, groups = fdpn.DEPTHS[depth].growth[stage], fdpn.DEPTHS[depth].groups
        name = f"conv{stage + 2}_x__{fdpn.DEPTHS[depth].units[stage]}_c"
        assert named[f"{name}3x3-b__conv_weight"] == (inner, inner // groups, 3, 3)
        assert named[f"{name}1x1-c__conv_weight"] == (width + growth, inner, 1, 1)


def test_inception_has_its_papers_first_stride_at_version_input_0_and_never_its_first_pooling():
    small, large = (get_symbol("i2", 512, version_input=version) for version in (1, 0))
    nets = [symbol.get_internals() for symbol in (large, small)]
    assert [net["convolution0_output"].attr("stride") for net in nets] == ["(2, 2)", "(1, 1)"]
    for net in nets:
        poolings = [name for name in net.list_outputs() if name.startswith("pooling")]
        assert poolings == [f"pooling{i}_output" for i in (1, 2, 3, 4)]  # the first is built and not used
    assert shapes("i2", version_input=0)[0]["pre_fc1_weight"] == (512, 38400)
    assert count_parameters(large) == 74137884
    assert count_parameters(small) - count_parameters(large) == 512 * 1536 * (12**2 - 5**2)
