"""Networks of others: another embedding node, grey images, scaling outside the graph; in every command that embeds."""

from __future__ import annotations

import json
import pickle
import re

import cv2
import foreign_network
import numpy as np
import onnx
import onnxruntime
import pytest
import small_network
from harness import error_of, orl_photo, run

from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError
from insightface_mx.conversion.proof import make_images
from insightface_mx.datasets import edit
from insightface_mx.deploy import compare, embed, export_onnx, model_slim
from insightface_mx.deploy.face_model import FaceModel
from insightface_mx.embedding import backends
from insightface_mx.embedding.embedder import Embedder
from insightface_mx.engine import face_network
from insightface_mx.engine.network import embed as embed_images
from insightface_mx.engine.network import load_model
from insightface_mx.engine.network_input import NetworkInput
from insightface_mx.eval import verification
from insightface_mx.files import manifest
from insightface_mx.formats import checkpoint
from insightface_mx.formats.training_set import TrainingSet, write_training_set

own_cache = pytest.fixture(autouse=True, scope="module")(small_network.own_cache)
INPUT = NetworkInput("l2normalization1", foreign_network.MEAN, foreign_network.SCALE)
IMAGES = make_images(foreign_network.SIZE)[2:].astype(np.uint8)  # noise, and drawn faces


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return foreign_network.save(tmp_path_factory.mktemp("foreign") / "net")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for index, image in enumerate(IMAGES):
        cv2.imwrite(str(folder / f"{index}.png"), image.transpose(1, 2, 0)[:, :, ::-1])
    return folder


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    paths = [tmp_path_factory.mktemp("pair") / f"{index}.png" for index in (1, 2)]
    for index, path in enumerate(paths, 1):
        cv2.imwrite(str(path), orl_photo(1, index))
    return paths


@pytest.mark.parametrize("name", backends.PACKAGES)
def test_every_backend_computes_what_plain_mxnet_computes(model, name):
    backend = backends.load(model, name=name, network_input=INPUT)
    assert (backend.image_size, backend.length) == (foreign_network.SIZE, foreign_network.LENGTH)
    expected = foreign_network.expected(model, IMAGES)
    assert np.abs(expected[0] - expected[1]).max() > 0.01
    np.testing.assert_allclose(backend.embed(IMAGES), expected, rtol=0, atol=1e-6 if name == "mxnet" else 1e-5)


@pytest.mark.parametrize("node", ["l2normalization1_output", "hybridsequential0_dense0_fwd"])
def test_a_colour_network_and_other_nodes(tmp_path, node):
    model = foreign_network.save(tmp_path / "net", channels=3)
    found = load_model(model[:-2], 0, [mx.cpu()], 4, foreign_network.SIZE, NetworkInput(node, (127.5,) * 3, 0.0078125))
    expected = foreign_network.expected(model, IMAGES, node.replace("_output", ""))
    np.testing.assert_allclose(embed_images(IMAGES, found, 4), expected, rtol=0, atol=1e-6 * np.abs(expected).max())


def test_mean_and_scale_of_each_channel(tmp_path):
    model = foreign_network.save(tmp_path / "net", channels=3)
    means, scales = (100.0, 110.0, 120.0), (0.01, 0.02, 0.005)
    network = face_network.load(model[:-2], 0, given=NetworkInput("l2normalization1", means, scales))
    images = mx.sym.Variable("data")
    parts = [(mx.sym.slice_axis(images, axis=1, begin=i, end=i + 1) - means[i]) * scales[i] for i in range(3)]
    plain = checkpoint.load(model[:-2], 0)[0].get_internals()["l2normalization1_output"](data=mx.sym.Concat(*parts))
    outputs = []
    for symbol in (plain, network.symbol):
        values = {"data": mx.nd.array(IMAGES), **{n: network.arg_params[n] for n in symbol.list_arguments()[1:]}}
        executor = symbol.bind(mx.cpu(), values, grad_req="null", aux_states=network.aux_params)
        outputs.append(executor.forward(is_train=False)[0].asnumpy())
    assert np.array_equal(*outputs)
    grey = foreign_network.save(tmp_path / "grey")
    with pytest.raises(UserError, match="pixel_mean has 3 numbers, but the network takes grey images"):
        face_network.load(grey[:-2], 0, given=NetworkInput("l2normalization1", means))


def test_the_error_lists_the_likely_nodes(model, capsys, photos, pair, tmp_path):
    says = (
        r"net-symbol\.json has no node fc1_output: .*--embedding-node .*may be it: l2normalization1 \(12 numbers\), "
        r"hybridsequential0_dense0_fwd \(12 numbers\), hybridsequential0_flatten0_flatten0 \(9216 numbers\)$"
    )
    output = ("--output", tmp_path / "x.npz")
    commands = [
        (embed, photos, "--aligned", *output),
        (compare, *pair),
        (export_onnx, "--output", tmp_path / "x.onnx"),
        (model_slim,),
    ]
    for command, *words in commands:
        assert re.search(says, error_of(capsys, command, *words, "--model", model), re.MULTILINE)
    with pytest.raises(UserError, match=r"has no node fc5_output: .*l2normalization1 \(12 numbers\)"):
        backends.load(model, network_input=NetworkInput("fc5"))
    with pytest.raises(
        UserError, match=r"has in node softmax a loss of softmax_label, not the .*l2normalization1 \(12"
    ):
        backends.load(model, network_input=NetworkInput("softmax"))


def test_the_commands_embed(model, photos, pair, tmp_path, capsys):
    expected = foreign_network.expected(model, IMAGES)
    words = ("--model", model, *foreign_network.OPTIONS)
    run(embed, photos, "--aligned", *words, "--output", tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as table:
        np.testing.assert_allclose(table["embedding"], expected, atol=1e-5)
    run(compare, *pair, *words)
    assert re.search(r"distance \d\.\d{4}, cosine", capsys.readouterr().out)
    named = {"embedding_node": "l2normalization1", "pixel_mean": 127.5, "pixel_scale": [0.0078125]}
    faces = FaceModel(model=model, backend="mxnet", **named)
    assert faces.image_size == foreign_network.SIZE
    np.testing.assert_allclose(faces.get_feature(IMAGES), expected, atol=1e-6)
    embedder = Embedder(model, device="cpu", flip=False, backend="mxnet", network_input=INPUT)
    np.testing.assert_allclose(embedder(IMAGES), expected, atol=1e-6)


def test_verification(model, tmp_path, capsys):
    images = [cv2.imencode(".png", image.transpose(1, 2, 0)[:, :, ::-1])[1].tobytes() for image in IMAGES]
    (tmp_path / "own.bin").write_bytes(pickle.dumps((images * 10, [True, False] * 10)))
    words = ("--data-dir", tmp_path, "--target", "own", "--gpu", "-1", "--model", model)
    run(verification, *words, *foreign_network.OPTIONS)
    assert "[own]XNorm: 1.000000\n" in capsys.readouterr().out
    assert "l2normalization1 (12 numbers)" in error_of(capsys, verification, *words)


def test_slimmed_the_manifest_says_the_input(model, tmp_path):
    prefix = model[:-2]
    run(model_slim, "--model", model, *foreign_network.OPTIONS)
    with open(f"{prefix}s-0000.json") as file:
        saved = json.load(file)
    assert saved["network_input"] == {
        "embedding_node": "l2normalization1",
        "pixel_mean": [127.5],
        "pixel_scale": [0.0078125],
    }
    assert sorted(saved["files"]) == ["nets-0000.params", "nets-symbol.json"]
    symbol, args, _ = checkpoint.load(f"{prefix}s", 0)
    assert symbol.list_outputs() == ["l2normalization1_output"]
    assert not [name for name in args if "dense1" in name]
    backend = backends.load(f"{prefix}s,0", name="mxnet")  # without options
    np.testing.assert_allclose(backend.embed(IMAGES), foreign_network.expected(model, IMAGES), rtol=0, atol=1e-6)


def test_exported_the_file_takes_rgb_and_says_the_input(model, tmp_path):
    path = tmp_path / "net.onnx"
    run(export_onnx, "--model", model, "--output", path, *foreign_network.OPTIONS)
    session = onnxruntime.InferenceSession(str(path))
    (found,) = session.run(None, {"data": IMAGES.astype(np.float32)})
    np.testing.assert_allclose(found, foreign_network.expected(model, IMAGES), atol=1e-5)
    said = session.get_modelmeta().custom_metadata_map
    assert json.loads(said["built_in"]) == {
        "embedding_node": "l2normalization1",
        "pixel_mean": [127.5],
        "pixel_scale": [0.0078125],
    }
    with pytest.raises(UserError, match=r"net\.onnx says itself .* leave out --embedding-node, --pixel-mean and"):
        backends.load(str(path), network_input=INPUT)


def test_a_map_of_1x1_is_a_vector_and_a_larger_one_is_none(tmp_path):
    body = mx.sym.Convolution(mx.sym.Variable("data"), num_filter=5, kernel=(3, 3), no_bias=True, name="conv")
    symbol = mx.sym.Pooling(body, global_pool=True, kernel=(1, 1), pool_type="avg", name="pool1")
    checkpoint.save(str(tmp_path / "net"), 0, symbol, {"conv_weight": mx.nd.ones((5, 3, 3, 3))}, {})
    found = backends.load(f"{tmp_path}/net,0", (8, 8), "mxnet", network_input=NetworkInput("pool1"))
    assert found.embed(np.ones((2, 3, 8, 8))).tolist() == [[27.0] * 5] * 2
    with pytest.raises(UserError, match=r"the output of node conv is \(1, 5, 6, 6\) for one image, not a vector"):
        face_network.load(str(tmp_path / "net"), 0, (8, 8), NetworkInput("conv"))


def test_edit_set_cleans_with_it(model, tmp_path):
    encoded = [cv2.imencode(".png", image.transpose(1, 2, 0)[:, :, ::-1])[1].tobytes() for image in IMAGES]
    write_training_set(str(tmp_path / "data"), [encoded], foreign_network.SIZE)
    unit = foreign_network.expected(model, IMAGES)
    flipped = foreign_network.expected(model, IMAGES[:, :, :, ::-1])
    unit = unit + flipped
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    cosines = unit @ (unit.mean(0) / np.linalg.norm(unit.mean(0)))
    limit = np.sort(cosines)[:2].mean()
    words = ("--min-cosine", limit, "--model", model, "--ctx", "cpu", *foreign_network.OPTIONS)
    run(edit, "clean", tmp_path / "data", "--output", tmp_path / "clean", *words)
    assert len(TrainingSet(str(tmp_path / "clean")).identities[0]) == len(IMAGES) - 1


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_an_onnx_file_of_others_is_taken_with_its_scaling(tmp_path, name):
    model = foreign_network.save(tmp_path / "net", channels=3)
    path = str(tmp_path / "net.onnx")
    run(export_onnx, "--model", model, "--output", path, "--embedding-node", "l2normalization1")
    content = onnx.load(path)
    content.producer_name = "pytorch"
    onnx.save(content, path)
    with pytest.raises(UserError, match=r"net\.onnx was not written here.*give --pixel-mean and --pixel-scale"):
        backends.load(path, name=name, network_input=NetworkInput(pixel_mean=127.5))
    with pytest.raises(UserError, match=r"leave out --embedding-node$"):
        backends.load(path, name=name, network_input=INPUT)
    given = NetworkInput(None, (foreign_network.MEAN,) * 3, foreign_network.SCALE)
    found = backends.load(path, name=name, network_input=given).embed(IMAGES)
    np.testing.assert_allclose(found, foreign_network.expected(model, IMAGES), rtol=0, atol=1e-5)


def test_grey_is_that_of_opencv(model):
    """Every tenth colour of the cube, in images of 100x100."""
    cube = np.stack(np.meshgrid(*[np.arange(0, 256, 3)] * 3), -1).reshape(-1, 3)[: 60 * 10000].astype(np.uint8)
    images = cube.reshape(-1, 100, 100, 3)
    symbol = face_network.load(model[:-2], 0, given=INPUT).symbol.get_internals()["pixels_grey_output"]
    executor = symbol.simple_bind(mx.cpu(), data=(len(images), 3, 100, 100), grad_req="null")
    found = executor.forward(data=mx.nd.array(images.transpose(0, 3, 1, 2)))[0].asnumpy()[:, 0]
    assert np.array_equal(found, np.stack([cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images]))


def test_an_input_with_another_name_and_a_declared_size(tmp_path):
    data = mx.sym.Variable("input_1", shape=(1, 3, 40, 30))
    symbol = mx.sym.FullyConnected(mx.sym.Flatten(data), num_hidden=4, name="fc5")
    checkpoint.save(
        str(tmp_path / "net"), 0, symbol, {"fc5_weight": mx.nd.ones((4, 3600)), "fc5_bias": mx.nd.ones(4)}, {}
    )
    network = face_network.load(str(tmp_path / "net"), 0, given=NetworkInput("fc5"))
    assert network.image_size == (40, 30)
    assert network.symbol.list_arguments() == ["data", "fc5_weight", "fc5_bias"]


def test_a_manifest_with_values_that_are_none(tmp_path):
    model = foreign_network.save(tmp_path / "net")
    manifest.write(f"{tmp_path}/net-0000.json", [], {"network_input": {"pixel_mean": "1e9"}})
    with pytest.raises(UserError, match="network_input in the checkpoint's manifest: pixel_mean is one finite number"):
        backends.load(model)


@pytest.mark.parametrize(
    "values, says",
    [
        ({"pixel_scale": 0}, "pixel_scale must not be 0"),
        ({"pixel_mean": (1, 2)}, r"pixel_mean is one finite number, or three of them, not \(1, 2\)"),
        ({"pixel_mean": float("nan")}, "pixel_mean is one finite number"),
        ({"pixel_mean": "127"}, "pixel_mean is one finite number"),
        ({"embedding_node": 5}, "embedding_node is the name of a node, not 5"),
    ],
)
def test_values_that_are_none(values, says):
    with pytest.raises(UserError, match=says):
        NetworkInput(**values)


def hostile(tmp_path, symbol, **params):
    """Save a checkpoint and load it for images of 112x112."""
    checkpoint.save(str(tmp_path / "m"), 1, symbol, params, {})
    return load_model(str(tmp_path / "m"), 1, [mx.cpu()], 1, (112, 112))


def test_a_small_file_cannot_ask_for_gigabytes(tmp_path):
    wide = mx.sym.Convolution(mx.sym.Variable("data"), num_filter=1025, kernel=(1, 1), no_bias=True, name="wide")
    fc1 = mx.sym.mean(wide, axis=(2, 3), name="fc1")
    with pytest.raises(
        UserError, match=r"m-0001\.params does not fit .*: its layers take 0\.1 GB for an image, which is more"
    ):
        hostile(tmp_path, fc1, wide_weight=mx.nd.ones((1025, 3, 1, 1)))
    data = mx.sym.Convolution(mx.sym.Variable("data"), num_filter=3, kernel=(1, 1), no_bias=True, name="rgb")
    many = mx.sym.add_n(*[mx.sym.tile(data, reps=(1, 300, 1, 1)) for _ in range(80)])
    with pytest.raises(UserError, match=r"m-0001\.params does not fit .*: its layers take 3\.\d GB for an image"):
        hostile(tmp_path, mx.sym.mean(many, axis=(2, 3), name="fc1"), rgb_weight=mx.nd.ones((3, 3, 1, 1)))


def test_layers_without_a_shape(tmp_path):
    fc1 = mx.sym.broadcast_mul(mx.sym.Variable("data"), mx.sym.Variable("free"), name="fc1")
    with pytest.raises(UserError, match=r"the shapes of its layers do not follow from the images"):
        hostile(tmp_path, fc1, free=mx.nd.ones((1, 3)))


def test_types_that_do_not_go_together(tmp_path):
    weight = mx.sym.Variable("w", dtype="int32")
    fc1 = mx.sym.FullyConnected(mx.sym.Variable("data"), weight=weight, num_hidden=2, no_bias=True, name="fc1")
    with pytest.raises(UserError, match=r"m-0001\.params: MXNet cannot run this network"):
        hostile(tmp_path, fc1, w=mx.nd.ones((2, 37632), dtype="int32"))


def test_an_argument_among_the_auxiliary_states(tmp_path):
    fc1 = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=2, no_bias=True, name="fc1")
    checkpoint.save(str(tmp_path / "m"), 1, fc1, {}, {"fc1_weight": mx.nd.ones((2, 12))})
    model = load_model(str(tmp_path / "m"), 1, [mx.cpu()], 1, (2, 2))
    assert embed_images(np.ones((1, 3, 2, 2)), model, 1).tolist() == [[12, 12]]


def test_two_outputs_of_one_name(tmp_path):
    fc1 = mx.sym.Flatten(mx.sym.Flatten(mx.sym.Variable("data"), name="fc1"), name="fc1")
    with pytest.raises(UserError, match=r"m-symbol\.json has 2 outputs fc1_output: name another --embedding-node"):
        hostile(tmp_path, fc1, unused=mx.nd.ones(1))
