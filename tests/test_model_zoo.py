"""A genuine MobileFaceNet of 2018 in every command; skipped where INSIGHTFACE_MODEL_ZOO names no folder."""

from __future__ import annotations

import os
import pickle
import re
import shutil

import cv2
import numpy as np
import onnxruntime
import pytest
import small_network
from harness import MODEL_ZOO, ZOO_ONLY, run

from insightface_mx.conversion.proof import make_images
from insightface_mx.deploy import embed, export_onnx, model_slim
from insightface_mx.engine.symbol_graph import SymbolGraph
from insightface_mx.eval import verification
from insightface_mx.formats import checkpoint
from insightface_mx.symbols import get_symbol

pytestmark = ZOO_ONLY
own_cache = pytest.fixture(autouse=True, scope="module")(small_network.own_cache)
IMAGES = make_images((112, 112)).astype(np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A copy of the MobileFaceNet, because slim writes next to it."""
    folder = tmp_path_factory.mktemp("zoo")
    for name in ("model-symbol.json", "model-0000.params"):
        shutil.copy(os.path.join(MODEL_ZOO, "y1-test2", name), folder)
    return f"{folder}/model,0"


@pytest.fixture(scope="module")
def expected(model):
    return small_network.plain_mxnet(model, IMAGES)


def test_its_graph_is_that_of_the_network_here_but_for_one_name(model):
    theirs = SymbolGraph(checkpoint.load(model[:-2], 0)[0]).nodes
    ours = SymbolGraph(get_symbol("y1", 128, version_output="GDC")).nodes
    assert [node.op for node in theirs] == [node.op for node in ours]
    pairs = [(one.name, other.name) for one, other in zip(theirs, ours) if one.name != other.name]
    assert pairs == [("fc1_weight", "pre_fc1_weight")]


def test_slimmed(model, expected):
    run(model_slim, "--model", model)
    assert np.array_equal(small_network.plain_mxnet(model.replace(",0", "s,0"), IMAGES), expected)


@pytest.mark.slow
def test_exported(model, expected, tmp_path):
    run(export_onnx, "--model", model, "--output", tmp_path / "y1.onnx")
    (found,) = onnxruntime.InferenceSession(str(tmp_path / "y1.onnx")).run(None, {"data": IMAGES.astype(np.float32)})
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


@pytest.mark.slow
def test_embedded_and_verified(model, expected, tmp_path, capsys):
    encoded = [cv2.imencode(".png", image.transpose(1, 2, 0)[:, :, ::-1])[1].tobytes() for image in IMAGES]
    (tmp_path / "own.bin").write_bytes(pickle.dumps((encoded * 10, [True, False, True] * 10)))
    run(embed, tmp_path / "own.bin", "--aligned", "--model", model, "--output", tmp_path / "own.npz")
    with np.load(tmp_path / "own.npz") as table:
        unit = expected / np.linalg.norm(expected, axis=1, keepdims=True)
        np.testing.assert_allclose(table["embedding"][:6], unit, atol=2e-5)
    run(verification, "--data-dir", tmp_path, "--target", "own", "--model", model, "--ctx", "cpu")
    (length,) = re.findall(r"\[own\]XNorm: ([\d.]+)", capsys.readouterr().out)
    mirrored = small_network.plain_mxnet(model, IMAGES[:, :, :, ::-1])
    norms = np.linalg.norm(np.concatenate([expected, mirrored]), axis=1)
    assert float(length) == pytest.approx(norms.mean(), rel=1e-4)
