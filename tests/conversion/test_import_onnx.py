"""The command that imports ONNX files: the checkpoint computes the same and has the parameters."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import onnx
import pytest
from harness import error_of, run
from iresnet_files import Writer
from mobilefacenet_files import MBF_LARGE, write_mobilefacenet
from onnx import TensorProto, helper, numpy_helper
from onnx_networks import load_params, save_network

from insightface_mx.base.errors import UserError
from insightface_mx.conversion import importer, proof
from insightface_mx.deploy import export_onnx, import_onnx
from insightface_mx.files.lock import lock_file
from insightface_mx.formats import checkpoint
from insightface_mx.symbols import get_symbol

NETWORKS = {  # name: network and versions of a round trip with small images
    "d": ("d121", {"version_input": 0, "version_output": "GAP"}),
    "d gluon": ("d121", {"version_family": 2021, "version_output": "GAP"}),
    "m1": ("m1", {"version_multiplier": 0.25, "version_output": "J"}),
    "m2": ("m2", {"version_output": "GAP"}),
    "mnas": ("mnas", {"version_multiplier": 0.25, "version_output": "GAP"}),
    "r basic": ("r101", {"version_family": 2021}),
    "r bn_data": ("r18", {"version_input": 2, "version_output": "F"}),
    "r excited": ("r18", {"version_se": 1, "version_output": "H"}),
    "r v1": ("r18", {"version_unit": 1, "version_input": 0, "version_act": "tanh", "version_output": "GAP"}),
    "r v2": ("r18", {"version_unit": 2, "version_output": "I"}),
    "r v4": ("r18", {"version_unit": 4, "version_act": "softrelu"}),
    "r separable": ("r18", {"version_output": "SFC"}),
    "s": ("s20", {}),
    "t": ("t50", {}),
    "vargfacenet": ("vargfacenet", {"version_multiplier": 1.25, "version_se": 1, "version_output": "J"}),
    "x": ("x", {"version_input": 0, "version_output": "GAP"}),
    "y": ("y1", {"version_output": "E"}),
    "y blocks": ("y1", {"version_blocks": "2,3,1,1"}),
    "y relu": ("y1", {"version_family": 2021, "version_act": "relu", "version_output": "GAP"}),
    "y norm-aware": ("y1", {"version_output": "GNAP"}),
}
SIZES = {"d121": 56, "vargfacenet": 112}  # sides of the images
SAME_IF_FOLDED = dict.fromkeys("FHIJ", "E")  # outputs that differ in norms and dropout only


def in_mxnet(prefix, images):
    symbol, *_ = checkpoint.load(str(prefix), 0)
    return proof.mxnet_runner(symbol, load_params(prefix), images.shape)(images)


def test_a_prefix_that_another_process_writes(tmp_path, capsys):
    with lock_file(str(tmp_path / "m")):
        error = error_of(capsys, import_onnx, tmp_path / "network.onnx", "--output", tmp_path / "m")
    assert f"{tmp_path}/m is being written by process " in error


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "folded"),
    [*((name, True) for name in NETWORKS), *((name, False) for name in ("m1", "r bn_data", "y norm-aware"))],
)
def test_a_network_comes_back_as_it_went(name, folded, tmp_path, capsys):
    network, versions = NETWORKS[name]
    size = SIZES.get(network, 28)
    symbol, params = save_network(tmp_path / "there", network, size=size, **versions)
    path = tmp_path / "network.onnx"
    options = ["--fold-norms"] if folded else []
    run(export_onnx, "--model", f"{tmp_path}/there,0", "--output", path, "--image-size", f"{size},{size}", *options)
    run(import_onnx, path, "--output", tmp_path / "back")
    back, *_ = checkpoint.load(str(tmp_path / "back"), 0)
    output = versions.get("version_output")
    if folded and output in SAME_IF_FOLDED:
        versions = {**versions, "version_output": SAME_IF_FOLDED[output]}
    expected = get_symbol(network, 32, image_size=(size, size), **versions)
    assert back.list_arguments() == expected.list_arguments()
    found = load_params(tmp_path / "back")
    if not folded:
        assert set(found) == set(params)
        fixed = {key for key, attrs in symbol.attr_dict().items() if attrs.get("fix_gamma") == "True"}
        kept = [key for key in params if key not in {f"{norm}_gamma" for norm in fixed} and "bn_data" not in key]
        assert all(np.array_equal(found[key], params[key]) for key in kept)
        assert len(kept) > 0.8 * len(params)
    images = proof.make_images((size, size))[:3]
    difference = proof.compare(in_mxnet(tmp_path / "there", images), in_mxnet(tmp_path / "back", images))
    assert difference.relative < 2e-5
    assert f"{path} is {network} " in capsys.readouterr().out


@pytest.mark.slow
def test_the_mobilefacenet_of_arcface_torch_is_y1_twice_as_wide(tmp_path, capsys):
    path = str(tmp_path / "mbf.onnx")
    state = write_mobilefacenet(path)
    run(import_onnx, path, "--output", tmp_path / "y1")
    assert "mbf.onnx is y1 version_multiplier 2.0 version_output GDC; " in capsys.readouterr().out
    found = load_params(tmp_path / "y1")
    assert found["pre_fc1_weight"].shape == (32, 512)
    slope = state["layers.5.layers.3.layers.1.layers.2.weight"]
    np.testing.assert_allclose(found["res_4_block3_conv_dw_relu_gamma"], slope, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [2, 4])
def test_the_large_mobilefacenet_of_arcface_torch_is_y3(tmp_path, capsys, scale):
    path = str(tmp_path / "mbf_large.onnx")
    state = write_mobilefacenet(path, scale, blocks=MBF_LARGE)
    run(import_onnx, path, "--output", tmp_path / "y3")
    assert f"mbf_large.onnx is y3 version_multiplier {scale}.0 version_output GDC; " in capsys.readouterr().out
    found = load_params(tmp_path / "y3")
    assert found["res_2_block1_conv_dw_conv2d_weight"].shape == (128, 1, 3, 3)
    slope = state["layers.5.layers.11.layers.1.layers.2.weight"]
    np.testing.assert_allclose(found["res_4_block11_conv_dw_relu_gamma"], slope, rtol=1e-6)


@pytest.mark.slow
def test_a_network_that_is_none_here_is_compared_with_the_one_of_the_same_kinds(tmp_path):
    path, graph = str(tmp_path / "mbf.onnx"), tmp_path / "other.onnx"
    write_mobilefacenet(path)
    model = onnx.load(path)
    first = next(node for node in model.graph.node if node.op_type == "PRelu")
    first.op_type = "LeakyRelu"
    del first.input[1:]
    onnx.save(model, graph)
    message = (
        r"other\.onnx is none of the networks here\. Nearest is y1 version_multiplier 2\.0 version_output \w+: the "
        r"file has the LeakyRelu \w+ where that has the PRelu conv_1_relu"
    )
    with pytest.raises(UserError, match=message):
        importer.import_onnx(str(graph))


@pytest.fixture(scope="module")
def y1(tmp_path_factory):
    """The folded ONNX file of a y1 with the paper's head, as a model."""
    folder = tmp_path_factory.mktemp("y1")
    save_network(folder / "y1", "y1", version_output="GDC")
    run(export_onnx, "--model", f"{folder}/y1,0", "--output", folder / "y1.onnx", "--fold-norms")
    return onnx.load(str(folder / "y1.onnx"))


def as_mobilefacenet(model):
    """The same network as others write it: normalised images, one at a time, a convolution at the end, own names."""
    graph = onnx.ModelProto.FromString(model.SerializeToString()).graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    nodes = [node for node in graph.node if node.op_type not in ("Sub", "Mul", "Flatten")]
    nodes[0].input[0] = "input"
    gemm = nodes.pop()
    weight = weights[gemm.input[1]]
    weight.dims[:] = [*weight.dims, 1, 1]
    nodes.append(helper.make_node("Conv", [nodes[-1].output[0], *gemm.input[1:]], ["map"]))
    nodes.append(helper.make_node("Reshape", ["map", "shape"], ["output"]))
    constants = [*weights.values(), numpy_helper.from_array(np.array([1, -1]), "shape")]
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("input", [1, 3, 112, 112]), ("output", [1, 32]))
    ]
    graph = helper.make_graph(nodes, "other", values[:1], values[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)


@pytest.mark.slow
def test_anothers_mobilefacenet_is_a_y1(y1, tmp_path, capsys):
    path = str(tmp_path / "other.onnx")
    onnx.save(as_mobilefacenet(y1), path)
    run(import_onnx, path, "--mean", 127.5, "--std", 128, "--output", tmp_path / "y1")
    assert "is y1 version_output GDC" in capsys.readouterr().out
    found = load_params(tmp_path / "y1")
    ours = {tensor.name: numpy_helper.to_array(tensor) for tensor in y1.graph.initializer}
    assert np.array_equal(found["conv_1_conv2d_weight"], ours["conv_1_conv2d_weight"])
    assert np.array_equal(found["fc1_beta"], ours["pre_fc1_bias"])
    for name, value in (("gamma", 1), ("moving_mean", 0), ("moving_var", 0.999)):
        assert np.all(found[f"conv_1_batchnorm_{name}"] == np.float32(value))
    run(
        import_onnx, path, "--output", tmp_path / "other"
    )  # by default it takes 127.5 for the divisor, as insightface does
    ratio = load_params(tmp_path / "other")["conv_1_conv2d_weight"] / found["conv_1_conv2d_weight"]
    np.testing.assert_allclose(ratio, 128 / 127.5, rtol=1e-6)


def in_eights(model):
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 8


def in_halves(model):
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16


@pytest.mark.slow
@pytest.mark.parametrize("change", [in_eights, in_halves])
def test_a_fixed_batch_and_float16_are_read(y1, tmp_path, change):
    model = onnx.ModelProto.FromString(y1.SerializeToString())
    change(model)
    onnx.save(model, str(tmp_path / "y1.onnx"))
    run(import_onnx, tmp_path / "y1.onnx", "--output", tmp_path / "y1")
    found = load_params(tmp_path / "y1")
    expected = next(tensor for tensor in y1.graph.initializer if tensor.name == "conv_1_conv2d_weight")
    tolerance = 0 if change is in_eights else 1e-3
    np.testing.assert_allclose(found[expected.name], numpy_helper.to_array(expected), rtol=tolerance, atol=tolerance)
    assert checkpoint.saved_image_size(f"{tmp_path}/y1", 0) == (112, 112)


@pytest.mark.slow
def test_denormal_numbers_are_dropped(y1, tmp_path, capsys):
    model = onnx.ModelProto.FromString(y1.SerializeToString())
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "conv_1_conv2d_weight")
    values = numpy_helper.to_array(tensor).copy()
    values[3] = 1e-40
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, str(tmp_path / "y1.onnx"))
    run(import_onnx, tmp_path / "y1.onnx", "--output", tmp_path / "y1")
    assert "27 numbers under 1e-20 taken as 0" in capsys.readouterr().err
    assert not load_params(tmp_path / "y1")["conv_1_conv2d_weight"][3].any()


def change_stride(graph):
    node = next(node for node in graph.node if node.name == "dconv_23_conv_dw_conv2d")
    next(attribute for attribute in node.attribute if attribute.name == "strides").ints[:] = [1, 1]


def change_operator(graph):
    node = next(node for node in graph.node if node.name == "dconv_34_conv_sep_relu")
    node.op_type, node.name = "Selu", "selu"
    del node.input[1]


def add_output(graph):
    graph.output.append(helper.make_tensor_value_info("conv_1_relu", TensorProto.FLOAT, ["N", 64, 56, 56]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (change_stride, [], "the file has the Conv dconv_23_conv_dw_conv2d pads"),
        (change_operator, [], "the file has the Selu selu where that has the PRelu dconv_34_conv_sep_relu"),
        (add_output, [], "has 2 outputs: it must have one"),
        (None, ["--mean", "100", "--std", "1"], "if that is near enough, say so with --mean"),
    ],
)
def test_a_network_that_is_none_of_these_is_refused_with_the_difference(change, options, message, y1, tmp_path, capsys):
    model = onnx.ModelProto.FromString(y1.SerializeToString())
    if change:
        change(model.graph)
    onnx.save(model, str(tmp_path / "y1.onnx"))
    check_refused(capsys, message, tmp_path / "y1.onnx", *options, "--output", tmp_path / "y1")
    assert os.listdir(tmp_path) == ["y1.onnx"]


def check_refused(capsys: pytest.CaptureFixture, message: str, *argv: Any) -> None:
    assert message in error_of(capsys, import_onnx, *argv).splitlines()[-1]


def test_a_file_without_layers_is_none_of_the_networks(tmp_path, capsys):
    writer = Writer({})
    writer.save(str(tmp_path / "relu.onnx"), writer.add("Relu", "input.1"))
    check_refused(capsys, "no convolution and no dense layer", tmp_path / "relu.onnx", "--output", tmp_path / "relu")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["nowhere.onnx"], "cannot open nowhere.onnx: No such file"),
        ([__file__], "is no ONNX file, or damaged"),
        ([os.devnull], "it is a device, not a file"),
        ([], "name one network"),
        (["a.onnx", "--torch", "a.pth"], "name one network"),
        (["a.onnx", "--mean", "1"], "--mean and --std go together"),
        (["--torch", "a.pth", "--mean", "1", "--std", "2"], "--mean and --std have no effect with --torch"),
        (["a.onnx", "--mean", "1", "--std", "0"], "--std must not be 0"),
    ],
)
def test_errors_are_one_line_and_status_2(args, message, tmp_path, capsys):
    check_refused(capsys, message, *args, "--output", tmp_path / "back")


@pytest.mark.slow
def test_a_checkpoint_that_differs_is_not_written(y1, tmp_path, capsys, monkeypatch):
    def slightly_wrong(match, fingerprint):
        params = reader(match, fingerprint)
        params["conv_6sep_relu_gamma"] *= np.float32(1.01)
        return params

    reader = importer.read_params
    monkeypatch.setattr(importer, "read_params", slightly_wrong)
    onnx.save(y1, str(tmp_path / "y1.onnx"))
    check_refused(capsys, "disagree at batch 1", tmp_path / "y1.onnx", "--output", tmp_path / "y1")
    assert os.listdir(tmp_path) == ["y1.onnx"]


@pytest.mark.slow
def test_the_graph_of_other_checkpoints_stays(y1, tmp_path, capsys):
    onnx.save(y1, str(tmp_path / "y1.onnx"))
    save_network(tmp_path / "run", "y1", version_output="E")
    before = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}
    check_refused(
        capsys,
        f"{tmp_path}/run-symbol.json is the graph of other checkpoints: name another output, or give --force",
        *(tmp_path / "y1.onnx", "--output", tmp_path / "run"),
    )
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == before
    for prefix in ("imported", "imported"):  # again, too
        run(import_onnx, tmp_path / "y1.onnx", "--output", tmp_path / prefix)
    assert checkpoint.saved_image_size(f"{tmp_path}/imported", 0) == (112, 112)
    run(import_onnx, tmp_path / "y1.onnx", "--output", tmp_path / "run", "--force")
    symbols = [(tmp_path / f"{prefix}-symbol.json").read_bytes() for prefix in ("run", "imported")]
    assert symbols[0] == symbols[1]
