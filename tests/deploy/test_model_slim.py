"""Slimmed checkpoints: what they keep, and that the client of 2019 takes them."""

import importlib.util
import re

import numpy as np
import pytest
import small_network
from harness import error_of, run
from old_client import install

from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError
from insightface_mx.deploy import model_slim
from insightface_mx.files.lock import lock_file
from insightface_mx.formats import checkpoint


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    prefix = tmp_path_factory.mktemp("slim") / "net"
    model = small_network.save(prefix, with_classifier=True)
    assert model_slim.slim(str(prefix), 1) == f"{prefix}s"
    return model


def images(count=3):
    return np.random.RandomState(5).randint(0, 256, (count, 3, 112, 112)).astype(np.uint8)


def test_everything_behind_the_embedding_is_gone(model):
    prefix, _ = checkpoint.parse(model)
    before, before_args, before_aux = checkpoint.load(prefix, 1)
    symbol, args, aux = checkpoint.load(f"{prefix}s", 0)
    assert symbol.list_outputs() == ["fc1_output"]
    assert sorted(set(before_args) - set(args)) == ["fc7_bias", "fc7_weight"]
    assert sorted(args) == sorted(set(symbol.list_arguments()) - {"data"})
    assert sorted(aux) == sorted(before_aux)
    for name, array in args.items():
        assert np.array_equal(array.asnumpy(), before_args[name].asnumpy())
    assert before.list_outputs()[1:] == ["softmax_output"]


def test_the_embedding_stays(model):
    expected = small_network.plain_mxnet(model, images())
    slimmed = small_network.plain_mxnet(model.replace(",1", "s,0"), images())
    assert np.array_equal(slimmed, expected)
    assert np.abs(expected).max() > 0.1


def test_the_command(model, capsys):
    run(model_slim, "--model", model)
    said = capsys.readouterr().out
    assert re.fullmatch(rf"{model[:-2]}s-0000\.params: 0\.\d MB, before 0\.\d MB\n", said)


def test_a_prefix_that_another_process_writes(model, capsys):
    prefix, _ = checkpoint.parse(model)
    with lock_file(f"{prefix}s"):
        assert f"{prefix}s is being written by process " in error_of(capsys, model_slim, "--model", model)


def test_checkpoints_that_cannot_be_slimmed(tmp_path, model, capsys):
    network = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=2, name="other")
    checkpoint.save(str(tmp_path / "a"), 0, network, {"other_weight": mx.nd.ones((2, 3))}, {})
    with pytest.raises(UserError, match=r"a-symbol\.json has no node fc1_output"):
        model_slim.slim(str(tmp_path / "a"), 0)
    symbol, args, aux = checkpoint.load(model[:-2], 1)
    del args["conv_1_conv2d_weight"]
    checkpoint.save(str(tmp_path / "b"), 0, symbol, args, aux)
    with pytest.raises(UserError, match=r"b-0000\.params lacks conv_1_conv2d_weight"):
        model_slim.slim(str(tmp_path / "b"), 0)
    assert "none-symbol.json does not exist" in error_of(capsys, model_slim, "--model", tmp_path / "none,0")


@pytest.mark.network
def test_the_client_of_2019_takes_it(model, tmp_path):
    """FaceRecognition of the PyPI package insightface 0.1.5, without what else that package needs."""
    install("insightface==0.1.5", tmp_path)
    path = tmp_path / "insightface" / "model_zoo" / "face_recognition.py"
    spec = importlib.util.spec_from_file_location("face_recognition_of_2019", path)
    client = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(client)
    recognition = client.FaceRecognition("r18", True, f"{model[:-2]}s-0000.params")
    recognition.prepare(-1)
    image = images(1)[0]
    found = recognition.get_embedding(np.ascontiguousarray(image.transpose(1, 2, 0)[:, :, ::-1]))
    np.testing.assert_allclose(found, small_network.plain_mxnet(model, image[np.newaxis]), rtol=1e-5, atol=1e-5)
