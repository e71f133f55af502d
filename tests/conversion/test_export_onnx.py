"""The command that exports ONNX files, against MXNet and insightface's own reader."""

import importlib
import importlib.util
import os
import sys
import types

import numpy as np
import onnx
import pytest
from harness import error_of, run
from old_client import install
from onnx import numpy_helper
from onnx_networks import save_network, save_params

from insightface_mx.conversion import importer, operators, proof
from insightface_mx.deploy import export_onnx
from insightface_mx.files import manifest
from insightface_mx.files.lock import lock_file
from insightface_mx.onnx_files import file, runtime


@pytest.fixture(scope="module")
def y1(tmp_path_factory):
    """Prefix of a y1 with some denormal weights and a drifted gamma, its symbol and its parameters."""
    prefix = str(tmp_path_factory.mktemp("y1") / "y1")
    symbol, params = save_network(prefix, "y1", size=56)
    params["fc1_gamma"][:] = 0.9
    params["conv_1_conv2d_weight"][5] = 1e-40
    save_params(prefix, symbol, params)
    return prefix, symbol, params


def export(*argv):
    run(export_onnx, "--image-size", "56,56", *argv)


@pytest.mark.slow
def test_the_command_writes_what_it_has_compared(y1, tmp_path, capsys):
    prefix, _, _ = y1
    path = tmp_path / "new" / "y1.onnx"
    export("--model", f"{prefix},0", "--output", path)
    out, err = capsys.readouterr()
    assert "27 numbers under 1e-20 taken as 0" in err
    difference = float(out.split("largest relative difference ")[1].split(",")[0])
    assert 0 < difference < 2e-5
    advice = (
        "On some CPUs OpenVINO computes in bfloat16 unless it is told not to, which changes embeddings: compile_model("
    )
    assert f"{path}: {advice}'{path}', 'CPU', {{'INFERENCE_PRECISION_HINT': 'f32'}})\n" in out
    model = onnx.load(str(path))
    assert advice in model.doc_string
    assert "RGB images of 0..255, batch x 3 x height x width" in model.doc_string
    (images,), (embedding,) = model.graph.input, model.graph.output
    assert images.name == "data"
    assert [one.dim_param or one.dim_value for one in images.type.tensor_type.shape.dim] == ["N", 3, 56, 56]
    assert [one.dim_param or one.dim_value for one in embedding.type.tensor_type.shape.dim] == ["N", 32]
    constants = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    assert np.all(constants["fc1_gamma"] == 1)
    assert not constants["conv_1_conv2d_weight"][5].any()
    assert constants["conv_1_relu_gamma"].shape == (64, 1, 1)
    assert os.listdir(tmp_path / "new") == ["y1.onnx"]


@pytest.mark.parametrize("option", ["--output", "--torch"])
def test_an_output_that_another_process_writes(y1, tmp_path, capsys, monkeypatch, option):
    monkeypatch.setattr(export_onnx, "require", lambda *_: None)  # PyTorch
    path = tmp_path / "y1"
    with lock_file(str(path)):
        error = error_of(capsys, export_onnx, "--image-size", "56,56", "--model", f"{y1[0]},0", option, path)
    assert f"{path} is being written by process " in error
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
def test_the_image_size_is_the_manifests_where_the_user_gives_none(y1, tmp_path):
    _, symbol, params = y1
    save_params(tmp_path / "trained", symbol, params)
    manifest.write(str(tmp_path / "trained-0000.json"), [], {"options": {"image_size": "56,56"}})
    run(export_onnx, "--model", f"{tmp_path}/trained,0", "--output", tmp_path / "trained.onnx")
    (images,) = onnx.load(str(tmp_path / "trained.onnx")).graph.input
    assert [one.dim_value for one in images.type.tensor_type.shape.dim[1:]] == [3, 56, 56]


def test_folded_norms_are_gone_from_the_file(y1, tmp_path):
    prefix, _, _ = y1
    path = tmp_path / "y1.onnx"
    export("--model", f"{prefix},0", "--output", path, "--fold-norms")
    operators = [node.op_type for node in onnx.load(str(path)).graph.node]
    assert operators.count("Conv") == 48
    assert "BatchNormalization" not in operators


def test_the_head_gives_the_cosines_with_the_class_weights(y1, tmp_path):
    _, symbol, params = y1
    weight = np.random.RandomState(2).normal(size=(7, 32)).astype(np.float32)
    save_params(tmp_path / "head", symbol, {**params, "fc7_weight": weight})
    path = str(tmp_path / "head.onnx")
    export("--model", f"{tmp_path}/head,0", "--output", path, "--head", "--fold-norms")
    embeddings, cosines = runtime.runner(runtime.open_model(path))(proof.make_images((56, 56)))
    units = [values / np.linalg.norm(values, axis=1, keepdims=True) for values in (embeddings, weight)]
    np.testing.assert_allclose(cosines, units[0] @ units[1].T, atol=1e-5)
    assert np.ptp(cosines) > 0.1


def test_a_file_that_differs_is_not_left(y1, tmp_path, capsys, monkeypatch):
    prefix, _, _ = y1
    (tmp_path / "y1.onnx").write_bytes(b"\x08 the earlier one")

    def slightly_wrong(writer, node):
        slope = node.sources[1]
        writer.params[slope] = writer.params[slope] * np.float32(1.001)
        return prelu_writer(writer, node)

    prelu_writer = operators.OPERATORS["LeakyReLU"]
    monkeypatch.setitem(operators.OPERATORS, "LeakyReLU", slightly_wrong)
    monkeypatch.setattr(proof, "mxnet_runner", with_own_params(proof.mxnet_runner, y1[2]))
    err = error_of(
        capsys, export_onnx, "--model", f"{prefix},0", "--output", tmp_path / "y1.onnx", "--image-size", "56,56"
    )
    assert "disagree at batch 1: largest relative difference 0.00" in err
    assert os.listdir(tmp_path) == ["y1.onnx"]
    assert (tmp_path / "y1.onnx").read_bytes() == b"\x08 the earlier one"


@pytest.mark.parametrize(
    ("option", "name"), [("--output", "y1-0.params"), ("--output", "a.onnx.bak"), ("--torch", "y")]
)
def test_files_of_another_kind_stay(y1, tmp_path, capsys, monkeypatch, option, name):
    monkeypatch.setattr(export_onnx, "require", lambda *_: None)
    (tmp_path / name).write_bytes(b"precious")
    error = error_of(capsys, export_onnx, "--model", f"{y1[0]},0", option, tmp_path / name)
    kind = "ONNX" if option == "--output" else ".pth"
    assert f"{tmp_path}/{name} is there already and is no {kind} file: name another output, or give --force" in error
    assert (tmp_path / name).read_bytes() == b"precious"


def test_force_replaces_a_file_of_another_kind(y1, tmp_path):
    (tmp_path / "old").write_bytes(b"old")
    export("--model", f"{y1[0]},0", "--output", tmp_path / "old", "--force")
    assert file.load(str(tmp_path / "old"))[1] == (56, 56)


def with_own_params(runner, params):
    return lambda symbol, _, shape: runner(symbol, params, shape)


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
        (
            ["--model", "{y1},0", "--torch", "a.pth", "--head", "--fold-norms"],
            "--fold-norms and --head have no effect without --output",
        ),
    ],
)
def test_errors_are_one_line_and_status_2(args, message, y1, others, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argv = [arg.format(y1=y1[0], others=others) for arg in args]
    assert message in error_of(capsys, export_onnx, "--image-size", "56,56", *argv).splitlines()[-1]
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
    export("--model", f"{tmp_path}/r18,0", "--output", path)
    return path, lambda images: proof.mxnet_runner(symbol, params, images.shape)(images)[0]


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.network
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
