"""MTCNN's weights: from the package and from checkpoints, and the errors for damaged, foreign and hostile files."""

import importlib.util
import os
import pickle
import sys
from types import SimpleNamespace

import lz4.frame
import numpy as np
import pytest
from harness import MODEL_ZOO, ZOO_ONLY

from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError
from insightface_mx.detection import weights as mtcnn_weights
from insightface_mx.detection.detector import MtcnnDetector
from insightface_mx.formats import checkpoint


def assert_equal_tensors(params, others):
    assert sorted(params) == sorted(others)
    for name, array in params.items():
        assert np.array_equal(array.asnumpy(), others[name].asnumpy()), name


@pytest.mark.parametrize(
    ("name", "parameters", "argument", "total"),
    [
        ("p", 6632, "conv1_weight", 161.16102050244808),
        ("r", 100178, "conv4_weight", -2983799.84098869),
        ("o", 389040, "conv5_weight", -20241286.080124483),
    ],
)
def test_weights_of_the_package(name, parameters, argument, total):
    """As the original's checkpoints have them: the weighted sums were computed there."""
    params = mtcnn_weights.load(name)
    assert sum(array.size for array in params.values()) == parameters
    values = params[argument].asnumpy().astype(np.float64).ravel()
    np.testing.assert_allclose(values @ np.arange(len(values)), total, rtol=1e-9)
    assert "mtcnn" not in sys.modules


def test_the_layouts_of_tensorflow():
    kernel = np.arange(3 * 3 * 3 * 2.0, dtype=np.float32).reshape(3, 3, 3, 2)
    dense = np.arange(2 * 2 * 2 * 5.0, dtype=np.float32).reshape(8, 5)
    last = np.arange(5 * 3.0, dtype=np.float32).reshape(5, 3)
    arrays = [kernel, np.zeros(2), np.ones((1, 1, 2)), dense, np.ones(5), last, np.full(3, 2.0)]
    params = mtcnn_weights.convert(["conv1", "prelu1", "conv4", "conv5_1"], arrays)
    params = {name: array.asnumpy() for name, array in params.items()}
    assert params["conv1_weight"].shape == (2, 3, 3, 3)
    assert params["prelu1_gamma"].shape == (2,)
    assert params["conv5_1_bias"].tolist() == [2, 2, 2]
    for out, channel, y, x in np.ndindex(2, 3, 3, 3):
        assert params["conv1_weight"][out, channel, y, x] == kernel[y, x, 2 - channel, out]
    for out, channel, y, x in np.ndindex(5, 2, 2, 2):
        assert params["conv4_weight"][out, channel * 4 + y * 2 + x] == dense[x * 4 + y * 2 + channel, out]
    assert np.array_equal(params["conv5_1_weight"], last.T)


@pytest.mark.parametrize("name", list("pro"))
def test_checkpoints_give_the_same_tensors(checkpoints, name):
    assert_equal_tensors(mtcnn_weights.load(name, str(checkpoints)), mtcnn_weights.load(name))


@ZOO_ONLY
@pytest.mark.parametrize("name", list("pro"))
def test_the_originals_checkpoints_give_the_same_tensors(name):
    assert_equal_tensors(mtcnn_weights.load(name, os.path.join(MODEL_ZOO, "mtcnn-model")), mtcnn_weights.load(name))


@ZOO_ONLY
@pytest.mark.parametrize("name", list("prol"))
def test_the_originals_graphs_compute_the_same(name):
    network = mtcnn_weights.NETWORKS[name]
    original, params, _ = checkpoint.load(os.path.join(MODEL_ZOO, "mtcnn-model", network.checkpoint), 1)
    height, width = (37, 50) if name == "p" else network.input_shape[1:]
    data = mx.nd.random.uniform(-1, 1, (3, network.input_shape[0], height, width))
    outputs = []
    for symbol in (original, network.symbol()):
        label = {"prob1_label": mx.nd.zeros(3)} if "prob1_label" in symbol.list_arguments() else {}
        executor = symbol.bind(mx.cpu(), {**params, **label, "data": data}, grad_req="null")
        outputs.append([output.asnumpy() for output in executor.forward(is_train=False)])
    assert len(outputs[0]) == len(outputs[1])
    for one, other in zip(*outputs):
        np.testing.assert_allclose(other, one, atol=1e-5)


class Attack:
    def __reduce__(self):
        return os.system, ("echo attacked",)


def test_a_pickle_that_names_anything_else_runs_nothing(capfd):
    with pytest.raises(pickle.UnpicklingError, match=r"system, which could run code; nothing was run"):
        mtcnn_weights.read_arrays(pickle.dumps([Attack()], protocol=4))
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [(b"f4", b"f8", "values of type f8"), (b"<", b">", "byte order >"), (b"\x8c\x01C", b"\x8c\x01F", "order F")],
)
def test_arrays_that_are_not_plain_float32(old, new, message):
    content = package_content("pnet.lz4")
    assert content[:260].count(old) == 1
    with pytest.raises(pickle.UnpicklingError, match=message):
        mtcnn_weights.read_arrays(content.replace(old, new, 1))


def package_content(file):
    package = os.path.dirname(importlib.util.find_spec("mtcnn").origin)
    with open(os.path.join(package, "assets", "weights", file), "rb") as stream:
        return lz4.frame.decompress(stream.read())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no lz4", "damaged or not of mtcnn 1.0.0"),
        (b"", "damaged or not of mtcnn 1.0.0"),
        (lz4.frame.compress(bytes((1 << 24) + 1)), "cut short, or holds more than 16777216 bytes"),
        (lz4.frame.compress(package_content("pnet.lz4")[:-40]), "damaged or not of mtcnn 1.0.0"),
        (lz4.frame.compress(pickle.dumps({})), "does not hold a list of arrays"),
        (lz4.frame.compress(pickle.dumps([])), "damaged or not of mtcnn 1.0.0"),
        (lz4.frame.compress(pickle.dumps([Attack()])), "could run code"),
        (lz4.frame.compress(package_content("rnet.lz4")), "is not MTCNN's det1: conv1_weight is"),
    ],
)
def test_a_damaged_package(tmp_path, monkeypatch, content, message):
    weights = tmp_path / "assets" / "weights"
    weights.mkdir(parents=True)
    (weights / "pnet.lz4").write_bytes(content)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: SimpleNamespace(origin=str(tmp_path / "__init__.py")))
    with pytest.raises(UserError, match=message) as caught:
        mtcnn_weights.load("p")
    assert "pnet.lz4" in str(caught.value)
    with pytest.raises(UserError, match=r"cannot open .*onet\.lz4"):
        mtcnn_weights.load("o")


def test_what_is_missing(tmp_path, monkeypatch, checkpoints):
    with pytest.raises(UserError, match="give a model_folder with det4, or leave accurate_landmark off"):
        MtcnnDetector(accurate_landmark=True)
    with pytest.raises(UserError, match=r"det4-symbol\.json does not exist"):
        MtcnnDetector(str(checkpoints), accurate_landmark=True)
    for end in ("symbol.json", "0001.params"):
        (tmp_path / f"det1-{end}").write_bytes((checkpoints / f"det2-{end}").read_bytes())
    with pytest.raises(UserError, match=r"det1-0001\.params is not MTCNN's det1: conv1_weight is \(28, 3, 3, 3\)"):
        MtcnnDetector(str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"mtcnn and lz4: pip install '\.\[detect\]'"):
        MtcnnDetector()
