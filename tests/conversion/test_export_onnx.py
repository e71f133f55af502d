"""Operators, folded norms, heads and files of the ONNX export, against MXNet, numpy and insightface's own reader."""

import importlib
import importlib.util
import json
import os
import sys
import types

import cv2
import numpy as np
import onnx
import pytest
from old_client import install
from onnx import numpy_helper
from onnx_networks import random_params, save_network, save_params

from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError
from insightface_mx.conversion import file, importer, operators, proof
from insightface_mx.conversion.fold_norms import change_epsilon, fold_norms
from insightface_mx.deploy import export_onnx
from insightface_mx.formats.verification_set import write_bin

SIZE = 9
SHAPE = (2, 3, SIZE, SIZE)
data = mx.sym.Variable("data")
inner = mx.sym.Activation(data, act_type="tanh")  # a norm of `data` itself is another matter


def conv(source, **attrs):
    return mx.sym.Convolution(source, name="conv", **{"num_filter": 6, "kernel": (3, 3), **attrs})


def norm(source, name="bn", **attrs):
    return mx.sym.BatchNorm(source, name=name, **{"fix_gamma": False, "eps": 2e-5, **attrs})


def dense(source, **attrs):
    return mx.sym.FullyConnected(source, num_hidden=5, name="fc", **attrs)


def prelu(source):
    return mx.sym.LeakyReLU(source, act_type="prelu", name="relu")


def pool(pool_type, **attrs):
    return mx.sym.Pooling(data, pool_type=pool_type, **{"kernel": (3, 3), "stride": (2, 2), "pad": (1, 1), **attrs})


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
    "scaled and dropped": mx.sym.Dropout(mx.sym.BlockGrad(mx.sym.identity((data - 0.5) * 2 + inner)), p=0.4),
    **{act: mx.sym.Activation(data, act_type=act) for act in ("relu", "sigmoid", "softrelu", "softsign", "tanh")},
}
FOLDED = {  # a symbol, and the number of its norms that stay
    "after a convolution": (norm(conv(data, num_group=3)), 0),
    "after a padded one without bias": (norm(conv(data, no_bias=True, pad=(1, 1))), 0),
    "two after another": (norm(norm(conv(data)), "second"), 0),
    "before a convolution": (conv(norm(inner), num_group=3), 0),
    "before a padded one": (conv(norm(inner), pad=(1, 1)), 1),
    "around a dense layer": (norm(dense(mx.sym.Dropout(norm(inner))), "last"), 0),
    "before an activation": (dense(prelu(norm(inner))), 1),
    "used twice": (dense(mx.sym.Concat(*(lambda body: (body, body * 2))(norm(conv(data))))), 0),
    "whose input is used twice": (mx.sym.elemwise_add(*(lambda body: (norm(body), body))(conv(data))), 1),
}


def exported(symbol, path, fold=False):
    """Largest relative difference of the exported symbol, and the operators in its file."""
    images = np.random.RandomState(1).normal(size=SHAPE).astype(np.float32)
    params = random_params(symbol, SHAPE)
    graph = operators.from_symbol(symbol, params, SHAPE)
    graph = fold_norms(graph) if fold else graph
    (expected,) = proof.mxnet_runner(symbol, params, SHAPE)(images)
    file.save(graph, path, (SIZE, SIZE), [expected.shape[1:]])
    (found,) = proof.onnx_runner(path)(images)
    return np.abs(found - expected).max() / np.abs(expected).max(), [node.op for node in graph.nodes]


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_computes_what_mxnet_computes(name, tmp_path):
    difference, _ = exported(OPERATORS[name], str(tmp_path / "one.onnx"))
    assert difference < 5e-6


def test_every_operator_of_the_table_is_among_those():
    nodes = [node for symbol in OPERATORS.values() for node in json.loads(symbol.tojson())["nodes"]]
    assert set(operators.OPERATORS) <= {node["op"] for node in nodes}


@pytest.mark.parametrize("name", FOLDED)
def test_norms_go_where_a_layer_can_do_their_work(name, tmp_path):
    symbol, staying = FOLDED[name]
    plain, operators = exported(symbol, str(tmp_path / "plain.onnx"))
    difference, folded = exported(symbol, str(tmp_path / "folded.onnx"), fold=True)
    assert max(plain, difference) < 1e-5
    assert folded.count("BatchNormalization") == staying < operators.count("BatchNormalization") + (staying > 0)


def test_a_norm_of_another_eps_does_the_same():
    gamma, variance, values = np.array([0.5, -2.0]), np.array([0.0, 0.3]), np.array([0.7, 0.1])
    for fixed in (False, True):
        new_gamma, new_variance = change_epsilon(gamma, variance, 1e-5, 2e-5, fixed)
        before, after = gamma * values / np.sqrt(variance + 1e-5), new_gamma * values / np.sqrt(new_variance + 2e-5)
        np.testing.assert_allclose(after, before, rtol=1e-12)
        assert np.array_equal(new_gamma, gamma) == fixed


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


@pytest.fixture(scope="module")
def y1(tmp_path_factory):
    """Prefix of a y1 with some denormal weights and a drifted gamma, its symbol and its numbers."""
    prefix = str(tmp_path_factory.mktemp("y1") / "y1")
    symbol, params = save_network(prefix, "y1", size=56)
    params["fc1_gamma"][:] = 0.9
    params["conv_1_conv2d_weight"][5] = 1e-40
    save_params(prefix, symbol, params)
    return prefix, symbol, params


def command(capsys, *args):
    """Exit status of the command, and what it printed to either stream."""
    status = 0
    try:
        export_onnx.main(["--image-size", "56,56", *map(str, args)])
    except SystemExit as end:
        status = end.code
    streams = capsys.readouterr()
    return status, streams.out, streams.err


def test_the_command_writes_what_it_has_compared(y1, tmp_path, capsys):
    prefix, _, _ = y1
    path = tmp_path / "new" / "y1.onnx"
    status, out, err = command(capsys, "--model", f"{prefix},0", "--output", path)
    assert status == 0
    assert "27 numbers under 1e-20 taken as 0" in err
    difference = float(out.split("largest relative difference ")[1].split(",")[0])
    assert 0 < difference < 2e-5
    model = onnx.load(str(path))
    (images,), (embedding,) = model.graph.input, model.graph.output
    assert images.name == "data"
    assert [one.dim_param or one.dim_value for one in images.type.tensor_type.shape.dim] == ["N", 3, 56, 56]
    assert [one.dim_param or one.dim_value for one in embedding.type.tensor_type.shape.dim] == ["N", 32]
    constants = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    assert np.all(constants["fc1_gamma"] == 1)
    assert not constants["conv_1_conv2d_weight"][5].any()
    assert constants["conv_1_relu_gamma"].shape == (64, 1, 1)
    assert os.listdir(tmp_path / "new") == ["y1.onnx"]


def test_folded_norms_are_gone_from_the_file(y1, tmp_path, capsys):
    prefix, _, _ = y1
    path = tmp_path / "y1.onnx"
    assert command(capsys, "--model", f"{prefix},0", "--output", path, "--fold-norms")[0] == 0
    operators = [node.op_type for node in onnx.load(str(path)).graph.node]
    assert operators.count("Conv") == 48
    assert "BatchNormalization" not in operators


def test_the_head_gives_the_cosines_with_the_class_weights(y1, tmp_path, capsys):
    _, symbol, params = y1
    weight = np.random.RandomState(2).normal(size=(7, 32)).astype(np.float32)
    save_params(tmp_path / "head", symbol, {**params, "fc7_weight": weight})
    path = str(tmp_path / "head.onnx")
    assert command(capsys, "--model", f"{tmp_path}/head,0", "--output", path, "--head", "--fold-norms")[0] == 0
    embeddings, cosines = proof.onnx_runner(path)(proof.make_images((56, 56)))
    units = [values / np.linalg.norm(values, axis=1, keepdims=True) for values in (embeddings, weight)]
    np.testing.assert_allclose(cosines, units[0] @ units[1].T, atol=1e-5)
    assert np.ptp(cosines) > 0.1


def test_a_file_that_differs_is_not_left(y1, tmp_path, capsys, monkeypatch):
    prefix, _, _ = y1
    (tmp_path / "y1.onnx").write_bytes(b"the earlier one")

    def slightly_wrong(writer, node):
        slope = node.sources[1]
        writer.params[slope] = writer.params[slope] * np.float32(1.001)
        return prelu_writer(writer, node)

    prelu_writer = operators.OPERATORS["LeakyReLU"]
    monkeypatch.setitem(operators.OPERATORS, "LeakyReLU", slightly_wrong)
    monkeypatch.setattr(proof, "mxnet_runner", with_own_params(proof.mxnet_runner, y1[2]))
    status, _, err = command(capsys, "--model", f"{prefix},0", "--output", tmp_path / "y1.onnx")
    assert status == 2
    assert "disagree at batch 1: largest relative difference 0.00" in err
    assert os.listdir(tmp_path) == ["y1.onnx"]
    assert (tmp_path / "y1.onnx").read_bytes() == b"the earlier one"


def with_own_params(runner, params):
    return lambda symbol, _, shape: runner(symbol, params, shape)


@pytest.mark.parametrize(
    ("relative", "cosine", "small"),
    [(1e-4, 0.99999, True), (1.01e-4, 1, False), (0, 0.999989, False), (np.nan, 1, False), (0, np.nan, False)],
)
def test_what_counts_as_a_small_difference(relative, cosine, small):
    assert proof.Difference(relative, cosine).is_small == small


def test_the_difference_is_that_of_the_worst_output_and_image():
    one = [np.array([[3.0, 4.0], [0.0, 10.0]]), np.array([[1.0]])]
    other = [np.array([[4.0, 3.0], [0.0, 10.0]]), np.array([[1.5]])]
    assert proof.compare(one, other) == pytest.approx((0.5, 0.96))


def test_real_images_are_compared_on_too(tmp_path):
    image = np.full((120, 112, 3), (200, 100, 50), np.uint8)
    encoded = cv2.imencode(".png", image)[1].tobytes()
    (tmp_path / "faces").mkdir()
    for i in range(4):
        (tmp_path / "faces" / f"{i}.png").write_bytes(encoded)
    (tmp_path / "faces" / "notes.txt").write_text("no image")
    write_bin(str(tmp_path / "set.bin"), [encoded] * 40, [True] * 20)
    made = proof.make_images((112, 112))
    folder, verification = (proof.make_images((112, 112), str(tmp_path / name)) for name in ("faces", "set.bin"))
    assert [len(images) for images in (made, folder, verification)] == [6, 9, 36]
    assert folder[8, :, 0, 0].tolist() == [50, 100, 200]
    assert np.array_equal(folder[:6], made)
    assert made.min() >= 0
    assert made.max() == 255


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """A folder with a y1 for larger images, E, and one without an embedding, Z."""
    folder = tmp_path_factory.mktemp("others")
    for head in ("E", "Z"):
        save_network(folder / head, "y1", version_output=head)
    return folder


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--model", "none,1", "--output", "a.onnx"], "none-symbol.json does not exist"),
        (["--model", "none", "--output", "a.onnx"], "write PREFIX,EPOCH"),
        (["--model", "{y1},0", "--output", "a.onnx", "--head"], "holds no class weights fc7_weight"),
        (
            ["--model", "{others}/E,0", "--output", "a.onnx", "--image-size", "56,56"],
            "does not fit its symbol and --image-size 56,56: pre_fc1_weight is (32, 25088), not (32, 8192)",
        ),
        (["--model", "{y1},0", "--output", "a.onnx", "--images", "nowhere"], "cannot open nowhere"),
        (["--model", "{y1},0", "--output", "{y1}-symbol.json/a.onnx"], "cannot save"),
        (["--model", "{others}/Z,0", "--output", "a.onnx"], "has no node fc1_output"),
        (["--model", "{y1},0"], "give a file to write"),
    ],
)
def test_errors_are_one_line_and_status_2(args, message, y1, others, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, err = command(capsys, *(arg.format(y1=y1[0], others=others) for arg in args))
    assert status == 2
    assert message in err.splitlines()[-1]
    assert "Traceback" not in err
    assert not os.path.exists("a.onnx")


@pytest.fixture(params=[1, 2])
def r18(request, tmp_path):
    """An exported r18 by version_input, and a function from images to its embeddings in MXNet."""
    symbol, params = save_network(tmp_path / "r18", "r18", size=56, version_input=request.param, version_output="GAP")
    if request.param == 2:
        params["bn_data_moving_mean"] += [120, 110, 100]
        params["bn_data_moving_var"] += [3000, 4000, 5000]
        save_params(tmp_path / "r18", symbol, params)
    path = str(tmp_path / "r18.onnx")
    export_onnx.main(["--model", f"{tmp_path}/r18,0", "--output", path, "--image-size", "56,56"])
    return path, lambda images: proof.mxnet_runner(symbol, params, images.shape)(images)[0]


def test_the_first_nodes_tell_that_pixels_are_wanted(r18):
    graph, image_size = file.load(r18[0])
    assert image_size == (56, 56)
    assert importer.find_scaling(graph) == (0, 1)
    assert [node.op for node in graph.nodes[:3]] == ["Sub", "Mul", "Conv"]


@pytest.fixture(scope="module")
def insightface(tmp_path_factory):
    folder = tmp_path_factory.mktemp("client")
    install("insightface==2.1", folder)
    return folder / "insightface"


@pytest.mark.skipif(sys.version_info < (3, 10), reason="insightface 2.1 needs Python 3.10")
def test_insightface_reads_the_file(r18, insightface, monkeypatch):
    path, in_mxnet = r18
    reader = arcface_onnx(str(insightface), monkeypatch).ArcFaceONNX(path)
    assert (reader.input_mean, reader.input_std, reader.input_size) == (0, 1, (56, 56))
    faces = [proof.drawn_face(np.random.RandomState(seed), (56, 56)) for seed in range(3)]
    found = reader.get_feat([face[:, :, ::-1] for face in faces])  # it takes BGR
    expected = in_mxnet(np.stack(faces).transpose(0, 3, 1, 2).astype(np.float32))
    assert proof.compare([expected], [found]).is_small


def arcface_onnx(root, monkeypatch):
    """insightface's module of that name by itself; the package would load scikit-image and all its other models."""
    for name, folders in {
        "insightface": [root],
        "insightface.model_zoo": [os.path.join(root, "model_zoo")],
        "insightface.utils": [],
    }.items():
        package = types.ModuleType(name)
        package.__path__ = folders
        monkeypatch.setitem(sys.modules, name, package)
    monkeypatch.setattr(sys.modules["insightface.utils"], "face_align", None, raising=False)
    return importlib.import_module("insightface.model_zoo.arcface_onnx")
