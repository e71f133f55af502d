"""ONNX files and PyTorch state dicts as checkpoints: the network is recognised, and its numbers come over."""

import importlib.util
import os

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_networks import random_params, save_network

from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError
from insightface_mx.conversion import file, importer, iresnet, proof
from insightface_mx.conversion.fingerprint import take_fingerprint
from insightface_mx.conversion.fold_norms import fold_norms
from insightface_mx.conversion.operators import from_symbol
from insightface_mx.conversion.read_params import read_params
from insightface_mx.conversion.recognise import Match, fingerprint_of_symbol, pair_steps, placeholders, recognise
from insightface_mx.deploy import export_onnx, import_onnx
from insightface_mx.formats import checkpoint
from insightface_mx.symbols import get_symbol
from insightface_mx.training.fine_tuning import load_pretrained

TORCH = importlib.util.find_spec("torch")
NETWORKS = {  # name: network and versions of a round trip with small images
    "d": ("d121", {"version_input": 0, "version_output": "GAP"}),
    "m1": ("m1", {"version_multiplier": 0.25, "version_output": "J"}),
    "m2": ("m2", {"version_output": "GAP"}),
    "r bn_data": ("r18", {"version_input": 2, "version_output": "F"}),
    "r excited": ("r18", {"version_se": 1, "version_output": "H"}),
    "r v1": ("r18", {"version_unit": 1, "version_input": 0, "version_act": "tanh", "version_output": "GAP"}),
    "r v2": ("r18", {"version_unit": 2, "version_output": "I"}),
    "r v4": ("r18", {"version_unit": 4, "version_act": "softrelu"}),
    "s": ("s20", {}),
    "t": ("t50", {}),
    "x": ("x", {"version_input": 0, "version_output": "GAP"}),
    "y": ("y1", {"version_output": "E"}),
    "y norm-aware": ("y1", {"version_output": "GNAP"}),
}
SAME_IF_FOLDED = dict.fromkeys("FHIJ", "E")  # heads that differ in norms and dropout only
LARGE = {  # too large to be run here
    "i2": {"version_output": "E"},
    "n": {"version_output": "GAP"},
    "p68": {"version_input": 0},
    "r100": {"version_output": "GDC"},
    "r152": {"version_unit": 5},
    "t152": {"version_multiplier": 4.0},
}


def command(*args):
    import_onnx.main([str(arg) for arg in args])


def arrays(prefix):
    _, arguments, auxiliary = checkpoint.load(str(prefix), 0)
    return {name: array.asnumpy() for name, array in {**arguments, **auxiliary}.items()}


def in_mxnet(prefix, images):
    symbol, *_ = checkpoint.load(str(prefix), 0)
    return proof.mxnet_runner(symbol, arrays(prefix), images.shape)(images)


@pytest.mark.parametrize(
    ("name", "folded"),
    [*((name, True) for name in NETWORKS), *((name, False) for name in ("m1", "r bn_data", "y norm-aware"))],
)
def test_a_network_comes_back_as_it_went(name, folded, tmp_path, capsys):
    network, versions = NETWORKS[name]
    size = 56 if network == "d121" else 28
    symbol, params = save_network(tmp_path / "there", network, size=size, **versions)
    path = str(tmp_path / "network.onnx")
    options = ["--fold-norms"] if folded else []
    export_onnx.main(["--model", f"{tmp_path}/there,0", "--output", path, "--image-size", f"{size},{size}", *options])
    command(path, "--output", tmp_path / "back")
    back, *_ = checkpoint.load(str(tmp_path / "back"), 0)
    head = (SAME_IF_FOLDED if folded else {}).get(versions.get("version_output"))
    versions = {**versions, "version_output": head} if head else versions
    expected = get_symbol(network, 32, image_size=(size, size), **versions)
    assert back.list_arguments() == expected.list_arguments()
    found = arrays(tmp_path / "back")
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


@pytest.mark.parametrize("network", LARGE)
def test_a_large_network_is_recognised_and_all_its_numbers_have_a_place(network):
    symbol = get_symbol(network, 64, **LARGE[network])
    shape = (1, 3, 112, 112)
    form = take_fingerprint(from_symbol(symbol, placeholders(symbol, shape), shape))
    match = recognise(form, shape[2:], "the graph")
    assert match.symbol.list_arguments() == symbol.list_arguments()
    assert match.symbol.list_auxiliary_states() == symbol.list_auxiliary_states()
    assert len(match.pairs) == len(form.steps)
    assert all(ours.node.name == theirs.node.name for ours, theirs in match.pairs)


def test_a_norm_without_attributes_has_mxnets_defaults():
    body = mx.sym.Convolution(mx.sym.Variable("data"), num_filter=4, kernel=(3, 3), name="conv")
    symbol = mx.sym.FullyConnected(mx.sym.BatchNorm(body, name="bn"), num_hidden=5, name="fc1")
    params = random_params(symbol, (1, 3, 8, 8))
    form = take_fingerprint(fold_norms(from_symbol(symbol, params, (1, 3, 8, 8))))
    ours = fingerprint_of_symbol(symbol, (8, 8))
    assert ours.signature == form.signature
    match = Match("tiny", symbol, ours, pair_steps(ours, form))
    found = read_params(match, form)
    factor = 1 / np.sqrt(params["bn_moving_var"] + 1e-3)
    np.testing.assert_allclose(found["conv_weight"], params["conv_weight"] * factor.reshape(4, 1, 1, 1), rtol=1e-5)
    shift = (params["conv_bias"] - params["bn_moving_mean"]) * factor + params["bn_beta"]
    np.testing.assert_allclose(found["bn_beta"], shift, rtol=1e-5)
    assert np.all(found["bn_gamma"] == 1)
    np.testing.assert_allclose(found["bn_moving_var"], 0.999, rtol=1e-6)


class Writer:
    """ONNX nodes as PyTorch writes them, which has numbers for names."""

    def __init__(self, state):
        self.state, self.nodes, self.constants, self.count = state, [], [], 0

    def add(self, op, *inputs, **attrs):
        self.count += 1
        self.nodes.append(helper.make_node(op, inputs, [str(self.count)], f"{op}_{self.count}", **attrs))
        return str(self.count)

    def constant(self, value):
        self.constants.append(numpy_helper.from_array(np.asarray(value, np.float32), f"c{len(self.constants)}"))
        return self.constants[-1].name

    def conv(self, data, name, stride=1):
        weight = self.state[f"{name}.weight"]
        pad = weight.shape[2] // 2
        return self.add("Conv", data, self.constant(weight), strides=[stride] * 2, pads=[pad] * 4, group=1)

    def norm(self, data, name):
        keys = ("weight", "bias", "running_mean", "running_var")
        values = [self.constant(self.state[f"{name}.{key}"]) for key in keys]
        return self.add("BatchNormalization", data, *values, epsilon=1e-5, momentum=0.9)

    def prelu(self, data, name):
        return self.add("PRelu", data, self.constant(self.state[f"{name}.weight"].reshape(-1, 1, 1)))

    def save(self, path, output, opset=12):
        images = helper.make_tensor_value_info("input.1", TensorProto.FLOAT, ["b", 3, 112, 112])
        embedding = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["b", 32])
        graph = helper.make_graph(self.nodes, "torch_jit", [images], [embedding], self.constants)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7), path)


def state_dict(units=(2, 2, 2, 2), emb_size=32):
    """An iresnet's state dict with random numbers, dead channels (variance 0) among them."""
    random, state = np.random.RandomState(0), {}

    def conv(name, outputs, inputs, kernel):
        size = (outputs, inputs, kernel, kernel)
        state[f"{name}.weight"] = random.normal(0, np.sqrt(2 / np.prod(size[1:])), size)

    def norm(name, channels):
        state[f"{name}.weight"] = np.ones(channels) if name == "features" else random.uniform(0.5, 1.5, channels)
        state[f"{name}.bias"] = random.normal(0, 0.2, channels)
        state[f"{name}.running_mean"] = random.normal(0, 0.2, channels)
        state[f"{name}.running_var"] = random.uniform(0.001, 2, channels) * (random.rand(channels) > 0.02)
        state[f"{name}.num_batches_tracked"] = np.int64(7)

    def prelu(name, channels):
        state[f"{name}.weight"] = random.uniform(0, 0.4, channels)

    conv("conv1", 64, 3, 3)
    norm("bn1", 64)
    prelu("prelu", 64)
    before = 64
    for stage, (count, width) in enumerate(zip(units, (64, 128, 256, 512)), 1):
        for i in range(count):
            name, inputs = f"layer{stage}.{i}", width if i else before
            norm(f"{name}.bn1", inputs)
            conv(f"{name}.conv1", width, inputs, 3)
            norm(f"{name}.bn2", width)
            prelu(f"{name}.prelu", width)
            conv(f"{name}.conv2", width, width, 3)
            norm(f"{name}.bn3", width)
            if not i:
                conv(f"{name}.downsample.0", width, inputs, 1)
                norm(f"{name}.downsample.1", width)
        before = width
    norm("bn2", 512)
    state["fc.weight"], state["fc.bias"] = random.normal(0, 0.01, (emb_size, 512 * 49)), random.normal(0, 1, emb_size)
    norm("features", emb_size)
    state["features.running_var"] += 0.1
    return {name: np.asarray(value, np.float32 if np.ndim(value) else None) for name, value in state.items()}


def write_iresnet(state, path):
    """An ONNX file of a state dict, with the detours of PyTorch's exporter: the size of the batch is looked up."""
    writer = Writer(state)
    body = writer.prelu(writer.norm(writer.conv("input.1", "conv1"), "bn1"), "prelu")
    for name in dict.fromkeys(key.rsplit(".", 2)[0] for key in state if key.endswith("bn1.weight") and "layer" in key):
        first = f"{name}.downsample.0.weight" in state
        branch = writer.norm(writer.conv(writer.norm(body, f"{name}.bn1"), f"{name}.conv1"), f"{name}.bn2")
        branch = writer.conv(writer.prelu(branch, f"{name}.prelu"), f"{name}.conv2", 2 if first else 1)
        branch = writer.norm(branch, f"{name}.bn3")
        shortcut = writer.norm(writer.conv(body, f"{name}.downsample.0", 2), f"{name}.downsample.1") if first else body
        body = writer.add("Add", *((shortcut, branch) if first else (branch, shortcut)))
    body = writer.norm(body, "bn2")
    number = writer.add("Gather", writer.add("Shape", body), writer.add("Constant", value_int=0), axis=0)
    axes = writer.add("Unsqueeze", number, axes=[0])
    rest = writer.add("Unsqueeze", writer.add("Constant", value_int=-1), axes=[0])
    body = writer.add("Reshape", body, writer.add("Concat", axes, rest, axis=0))
    transposed = writer.add("Transpose", writer.constant(state["fc.weight"]), perm=[1, 0])
    body = writer.add("Add", writer.add("MatMul", body, transposed), writer.constant(state["fc.bias"]))
    body = writer.norm(writer.add("Identity", body), "features")
    writer.save(path, body)


def test_an_iresnet_is_an_r18_from_its_onnx_file_and_from_its_state_dict(tmp_path, capsys):
    state, path = state_dict(), str(tmp_path / "backbone.onnx")
    write_iresnet(state, path)
    command(path, "--output", tmp_path / "r18")
    assert "is r18 version_input 1 version_unit 3 version_se 0 version_act prelu" in capsys.readouterr().out
    found = arrays(tmp_path / "r18")
    name, symbol, params = iresnet.from_state(state)
    assert name == "r18"
    assert set(found) == set(params)
    for key, value in params.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-5, atol=1e-7, err_msg=key)
    np.testing.assert_allclose(params["conv0_weight"], state["conv1.weight"] * 128 / 127.5, rtol=1e-6)
    inputs = ("data", "softmax_label")
    load_pretrained(
        f"{tmp_path}/r18,0", symbol, (1, 3, 112, 112), inputs
    )  # raises where training could not go on from it


def test_a_state_dict_comes_back_as_it_went():
    state = state_dict()
    state["features.weight"] = np.linspace(-2, 2, 32).astype(np.float32)
    _, symbol, params = iresnet.from_state(dict(state))
    back = iresnet.to_state(symbol, params)
    assert set(back) == set(state)
    dense = [f"{name}.{key}" for name, key in (("fc", "weight"), ("fc", "bias"), ("features", "running_mean"))]
    for key in set(state) - {*dense, "features.weight"} - {key for key in state if key.endswith("tracked")}:
        np.testing.assert_allclose(back[key], state[key], rtol=1e-6, atol=1e-8, err_msg=key)
    for key in dense:  # they have taken the last norm's factor in
        factor = state["features.weight"].reshape(-1, *[1] * (state[key].ndim - 1))
        np.testing.assert_allclose(back[key], state[key] * factor, rtol=1e-5)
    assert np.all(back["features.weight"] == 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fc.bias": None}, "has no fc.bias: it is not arcface_torch's iresnet18"),
        ({"extra.weight": np.zeros(1)}, "has extra.weight, which arcface_torch's iresnet18 does not have"),
        ({"layer4.2.bn1.weight": np.zeros(1)}, r"has \(2, 2, 2, 3\) units in its four stages"),
    ],
)
def test_another_state_dict_is_refused(change, message):
    state = {key: value for key, value in {**state_dict(), **change}.items() if value is not None}
    with pytest.raises(UserError, match=message):
        iresnet.from_state(state)


def test_only_an_iresnet_becomes_a_state_dict():
    symbol = get_symbol("r18", 32, version_unit=2)
    with pytest.raises(UserError, match="only r18, r34, r50 and r100"):
        iresnet.to_state(symbol, random_params(symbol, (1, 3, 112, 112)))


@pytest.mark.skipif(TORCH is not None, reason="PyTorch is installed")
def test_without_pytorch_the_command_says_what_to_install(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        command("--torch", "backbone.pth", "--output", tmp_path / "r18")
    assert "pip install 'insightface-mx[torch]'" in capsys.readouterr().err


@pytest.mark.skipif(TORCH is None, reason="needs PyTorch, an extra")
def test_pytorch_reads_and_writes_the_same(tmp_path, capsys):
    import torch

    state = {key: torch.from_numpy(np.asarray(value)) for key, value in state_dict().items()}
    torch.save(state, tmp_path / "backbone.pth")
    command("--torch", tmp_path / "backbone.pth", "--output", tmp_path / "r18")
    export_onnx.main(["--model", f"{tmp_path}/r18,0", "--torch", str(tmp_path / "back.pth")])
    assert capsys.readouterr().out.count("largest relative difference") == 2
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    assert all(torch.allclose(back[key], state[key], rtol=1e-5) for key in state if not key.endswith("tracked"))
    (tmp_path / "bad.pth").write_bytes(b"no state dict")
    with pytest.raises(UserError, match=r"bad\.pth is no state dict, or damaged"):
        iresnet.load(str(tmp_path / "bad.pth"))


@pytest.fixture(scope="module")
def y1(tmp_path_factory):
    """The folded ONNX file of a y1 with the paper's head, as a model."""
    folder = tmp_path_factory.mktemp("y1")
    save_network(folder / "y1", "y1", version_output="GDC")
    path = str(folder / "y1.onnx")
    export_onnx.main(["--model", f"{folder}/y1,0", "--output", path, "--fold-norms"])
    return onnx.load(path)


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


def test_anothers_mobilefacenet_is_a_y1(y1, tmp_path, capsys):
    path = str(tmp_path / "other.onnx")
    onnx.save(as_mobilefacenet(y1), path)
    command(path, "--mean", 127.5, "--std", 128, "--output", tmp_path / "y1")
    assert "is y1 version_output GDC" in capsys.readouterr().out
    found = arrays(tmp_path / "y1")
    ours = {tensor.name: numpy_helper.to_array(tensor) for tensor in y1.graph.initializer}
    assert np.array_equal(found["conv_1_conv2d_weight"], ours["conv_1_conv2d_weight"])
    assert np.array_equal(found["fc1_beta"], ours["pre_fc1_bias"])
    for name, value in (("gamma", 1), ("moving_mean", 0), ("moving_var", 0.999)):
        assert np.all(found[f"conv_1_batchnorm_{name}"] == np.float32(value))
    command(path, "--output", tmp_path / "other")  # by default it takes 127.5 for the divisor, as insightface does
    ratio = arrays(tmp_path / "other")["conv_1_conv2d_weight"] / found["conv_1_conv2d_weight"]
    np.testing.assert_allclose(ratio, 128 / 127.5, rtol=1e-6)


def test_denormal_numbers_are_dropped(y1, tmp_path, capsys):
    model = onnx.ModelProto.FromString(y1.SerializeToString())
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "conv_1_conv2d_weight")
    values = numpy_helper.to_array(tensor).copy()
    values[3] = 1e-40
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, str(tmp_path / "y1.onnx"))
    command(tmp_path / "y1.onnx", "--output", tmp_path / "y1")
    assert "27 numbers under 1e-20 taken as 0" in capsys.readouterr().err
    assert not arrays(tmp_path / "y1")["conv_1_conv2d_weight"][3].any()


def change_stride(graph):
    node = next(node for node in graph.node if node.name == "dconv_23_conv_dw_conv2d")
    next(attribute for attribute in node.attribute if attribute.name == "strides").ints[:] = [1, 1]


def change_operator(graph):
    node = next(node for node in graph.node if node.name == "dconv_34_conv_sep_relu")
    node.op_type, node.name = "Selu", "selu"
    del node.input[1]


def add_output(graph):
    graph.output.append(helper.make_tensor_value_info("conv_1_relu", TensorProto.FLOAT, ["N", 64, 56, 56]))


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (change_stride, [], "the file has the Conv dconv_23_conv_dw_conv2d pads"),
        (change_operator, [], "the file has the Selu selu where that has the PRelu dconv_34_conv_sep_relu"),
        (add_output, [], "has 1 inputs and 2 outputs"),
        (None, ["--mean", "100", "--std", "1"], "if that is near enough, say so with --mean"),
    ],
)
def test_a_network_that_is_none_of_these_is_refused_with_the_difference(change, options, message, y1, tmp_path, capsys):
    model = onnx.ModelProto.FromString(y1.SerializeToString())
    if change:
        change(model.graph)
    onnx.save(model, str(tmp_path / "y1.onnx"))
    check_refused([tmp_path / "y1.onnx", *options, "--output", tmp_path / "y1"], message, capsys)
    assert os.listdir(tmp_path) == ["y1.onnx"]


def check_refused(args, message, capsys):
    with pytest.raises(SystemExit) as end:
        command(*args)
    err = capsys.readouterr().err
    assert end.value.code == 2
    assert message in err.splitlines()[-1]
    assert "Traceback" not in err


def test_a_file_without_layers_is_none_of_the_networks(tmp_path, capsys):
    writer = Writer({})
    writer.save(str(tmp_path / "relu.onnx"), writer.add("Relu", "input.1"))
    check_refused([tmp_path / "relu.onnx", "--output", tmp_path / "relu"], "no convolution and no dense layer", capsys)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["nowhere.onnx"], "cannot open nowhere.onnx: No such file"),
        ([__file__], "is no ONNX file, or damaged"),
        ([os.devnull], "is no ONNX file, or damaged"),
        ([], "name one network"),
        (["a.onnx", "--torch", "a.pth"], "name one network"),
        (["a.onnx", "--mean", "1"], "--mean and --std go together"),
        (["a.onnx", "--mean", "1", "--std", "0"], "--std must not be 0"),
    ],
)
def test_errors_are_one_line_and_status_2(args, message, tmp_path, capsys):
    check_refused([*args, "--output", tmp_path / "back"], message, capsys)


def test_a_checkpoint_that_differs_is_not_written(y1, tmp_path, capsys, monkeypatch):
    def slightly_wrong(match, form):
        params = reader(match, form)
        params["conv_6sep_relu_gamma"] *= np.float32(1.01)
        return params

    reader = importer.read_params
    monkeypatch.setattr(importer, "read_params", slightly_wrong)
    onnx.save(y1, str(tmp_path / "y1.onnx"))
    check_refused([tmp_path / "y1.onnx", "--output", tmp_path / "y1"], "disagree at batch 1", capsys)
    assert os.listdir(tmp_path) == ["y1.onnx"]


def test_a_graph_is_read_without_what_does_nothing(tmp_path):
    path = str(tmp_path / "backbone.onnx")
    write_iresnet(state_dict(emb_size=32), path)
    graph, image_size = file.load(path)
    operators = [node.op for node in graph.nodes]
    assert image_size == (112, 112)
    assert sorted(set(operators)) == ["Add", "BatchNormalization", "Conv", "Flatten", "Gemm", "PRelu"]
    assert operators.count("Conv") == 21
    gemm = graph.nodes[operators.index("Gemm")]
    assert graph.constants[gemm.inputs[1]].shape == (32, 512 * 49)
    assert len(gemm.inputs) == 3
