"""int8 files: what they compute, how they look, and when none is written."""

import importlib.util
import os
import sys

import cv2
import numpy as np
import onnx
import pytest
import small_network
from harness import error_of, run

from insightface_mx.deploy import quantize
from insightface_mx.embedding import backends
from insightface_mx.eval.pairs import load_bin
from insightface_mx.files.lock import lock_file
from insightface_mx.formats.verification_set import write_bin
from insightface_mx.photos.sources import aligned_images

own_cache = pytest.fixture(autouse=True, scope="module")(small_network.own_cache)
needs_nncf = pytest.mark.skipif(not importlib.util.find_spec("nncf"), reason="nncf is not installed")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return small_network.save(tmp_path_factory.mktemp("model") / "net")


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """A folder of images to calibrate on and pairs.bin: six blobs in colours of their own, and noisy copies of each."""
    folder = tmp_path_factory.mktemp("faces")
    draw = np.random.RandomState(8)
    (folder / "calibration").mkdir()
    images, issame = [], []
    for pair in range(12):
        blob = cv2.resize(draw.randint(0, 256, (4, 4, 3)).astype(np.uint8), (112, 112), interpolation=cv2.INTER_CUBIC)
        other = blob if pair % 2 == 0 else blob[::-1, :, ::-1]
        both = [
            cv2.imencode(".png", cv2.add(image, draw.randint(0, 9, image.shape).astype(np.uint8)))[1]
            for image in (blob, other)
        ]
        images += both
        issame.append(pair % 2 == 0)
        (folder / "calibration" / f"{pair}.png").write_bytes(both[0].tobytes())
    write_bin(str(folder / "pairs.bin"), images, issame)
    return folder


def words(model, faces, output):
    """The command line with these files."""
    inputs = ["--calibration", f"{faces}/calibration", "--pairs", f"{faces}/pairs.bin"]
    return ["--model", model, *inputs, "--output", output]


def test_accuracy_is_that_of_images_with_their_mirror_images(model, faces):
    backend = backends.load(model, name="mxnet")
    pairs = load_bin(f"{faces}/pairs.bin", (112, 112))
    assert quantize.accuracy(backend, pairs) == 100
    constant = backends.Backend("constant", lambda images: np.ones((len(images), 2), np.float32), (112, 112))
    assert quantize.accuracy(constant, pairs) <= 50  # it cannot tell any pair from another


@pytest.mark.slow
@needs_nncf
def test_int8(model, faces, tmp_path, capsys):
    path = str(tmp_path / "int8.onnx")
    run(quantize, *words(model, faces, path))
    said = capsys.readouterr()
    assert (
        f"{path}: accuracy on {faces}/pairs.bin 100.000 % before, 100.000 % in int8 (openvino); calibrated on 12"
        in said.out
    )
    assert "WARNING" not in said.err
    assert "OpenVINO computes in bfloat16 unless it is told not to" in onnx.load(path).doc_string
    images = aligned_images(f"{faces}/pairs.bin", (112, 112), 24)
    reference = small_network.plain_mxnet(model, images)
    for name in ("openvino", "onnxruntime"):
        found = backends.load(path, name=name).embed(images)
        cosines = (found * reference).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(reference, axis=1)
        assert 0.98 < cosines.min() < 0.999999
    operators = {node.op_type for node in onnx.load(path).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear", "Conv"} <= operators
    weights = [array for array in onnx.load(path).graph.initializer if array.data_type == onnx.TensorProto.INT8]
    assert sum(np.prod(array.dims) for array in weights) > 10000


@pytest.mark.slow
@needs_nncf
def test_int8_that_loses_too_much_is_not_written(model, faces, tmp_path, capsys):
    path = str(tmp_path / "int8.onnx")
    error = error_of(capsys, quantize, *words(model, faces, path), "--max-loss", "-1")
    assert "a loss of more than --max-loss -1.0; nothing was written" in error
    assert os.listdir(tmp_path) == []


@needs_nncf
def test_an_output_that_another_process_writes(model, faces, tmp_path, capsys):
    path = str(tmp_path / "int8.onnx")
    with lock_file(path):
        assert f"{path} is being written by process " in error_of(capsys, quantize, *words(model, faces, path))
    assert os.listdir(tmp_path) == []


def test_int8_without_its_package(model, faces, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "nncf", None)
    error = error_of(capsys, quantize, *words(model, faces, tmp_path / "int8.onnx"))
    assert "int8 needs nncf: before Python 3.10 pip install nncf, otherwise pip install '.[deploy]'" in error
    assert os.listdir(tmp_path) == []
