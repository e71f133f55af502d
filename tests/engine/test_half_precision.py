"""Checkpoints of float16: taken as float32 by every command, with the same embeddings."""

from __future__ import annotations

import numpy as np
import pytest
import small_network
from harness import run

from insightface_mx import symbols
from insightface_mx.base.compat import mx
from insightface_mx.deploy import export_onnx, model_slim
from insightface_mx.embedding import backends
from insightface_mx.engine.half_precision import to_float32
from insightface_mx.formats import checkpoint
from insightface_mx.training.fine_tuning import load_pretrained

own_cache = pytest.fixture(autouse=True, scope="module")(small_network.own_cache)
IMAGES = np.random.RandomState(6).randint(0, 256, (3, 3, 112, 112)).astype(np.uint8)


def halve(model: str, prefix: str) -> None:
    """Write PREFIX,0 as training with float16 does: a cast of the images, one back, and parameters of float16."""
    symbol, args, aux = checkpoint.load(model[:-2], 1)
    body = symbol.get_internals()["flatten0_output"]
    casts = mx.sym.Cast(mx.sym.Variable("data", dtype="float16"), dtype="float16", name="half")
    cut = set(body.list_arguments())
    body = mx.sym.Cast(body(data=casts), dtype="float32", name="back")
    dense = mx.sym.FullyConnected(body, num_hidden=small_network.LENGTH, name="pre_fc1")
    embedding = mx.sym.BatchNorm(dense, eps=2e-5, name="fc1")
    fc7 = mx.sym.FullyConnected(embedding, num_hidden=5, no_bias=True, name="fc7")
    symbol = mx.sym.Group([mx.sym.BlockGrad(embedding), mx.sym.SoftmaxOutput(fc7, name="softmax")])
    args = {name: array.astype("float16") if name in cut else array for name, array in args.items()}
    args["fc7_weight"] = mx.nd.ones((5, small_network.LENGTH))
    checkpoint.save(prefix, 0, symbol, args, aux)


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    return small_network.save(tmp_path_factory.mktemp("full") / "net")


@pytest.fixture(scope="module")
def half(full, tmp_path_factory):
    prefix = str(tmp_path_factory.mktemp("half") / "net")
    halve(full, prefix)
    return prefix


@pytest.fixture(scope="module")
def expected(full, half):
    """Embeddings in float32 with the parameters rounded to float16."""
    symbol, args, aux = checkpoint.load(full[:-2], 1)
    _, rounded, _ = checkpoint.load(half, 0)
    prefix = f"{half}-rounded"
    checkpoint.save(prefix, 1, symbol, {name: rounded[name].astype("float32") for name in args}, aux)
    return small_network.plain_mxnet(f"{prefix},1", IMAGES)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mxnet", "onnxruntime"])
def test_a_back_end_computes_it_and_says_so_once(half, expected, name, caplog, tmp_path):
    caplog.set_level("INFO")
    halve_again = str(tmp_path / "net")
    symbol, args, aux = checkpoint.load(half, 0)
    checkpoint.save(halve_again, 0, symbol, args, aux)
    for _ in range(2):
        backend = backends.load(f"{halve_again},0", name=name)
        np.testing.assert_allclose(backend.embed(IMAGES), expected, rtol=0, atol=2e-5 * np.abs(expected).max())
    assert caplog.text.count("net-0000.params is a network of 16-bit numbers: taken as float32") == 1


def test_exported_and_slimmed(half, expected, tmp_path):
    run(export_onnx, "--model", f"{half},0", "--output", tmp_path / "net.onnx")
    found = backends.load(str(tmp_path / "net.onnx"), name="onnxruntime").embed(IMAGES)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * np.abs(expected).max())
    run(model_slim, "--model", f"{half},0")
    symbol, args, _ = checkpoint.load(f"{half}s", 0)
    assert "Cast" not in symbol.tojson()
    assert {array.dtype for array in args.values()} == {np.float32}
    assert symbol.attr_dict().get("data", {}).get("__dtype__") is None
    assert np.array_equal(small_network.plain_mxnet(f"{half}s,0", IMAGES), expected)


def test_fine_tuning_starts_from_it(half):
    symbol = symbols.get_symbol("m1", small_network.LENGTH, version_multiplier=0.0625, version_output="GAP")
    args, aux = load_pretrained(f"{half},0", symbol, (2, 3, 112, 112), ["data"])
    assert {array.dtype for array in [*args.values(), *aux.values()]} == {np.float32}
    assert np.array_equal(
        args["conv_1_conv2d_weight"].asnumpy(),
        checkpoint.load(half, 0)[1]["conv_1_conv2d_weight"].asnumpy().astype(np.float32),
    )


def test_casts_of_amp_are_left_out_and_others_stay():
    data = mx.sym.Variable("data")
    one, other = mx.sym.amp_multicast(data * 2, mx.sym.amp_cast(data, dtype="float16"), num_outputs=2)
    symbol = mx.sym.Cast(one + other, dtype="int32", name="whole")
    found, _ = to_float32("x", symbol)
    assert "amp" not in found.tojson(remove_amp_cast=False)
    executor = found.bind(mx.cpu(), {"data": mx.nd.array([1.25, 2])})
    assert executor.forward()[0].asnumpy().tolist() == [3, 6]
    plain = mx.sym.FullyConnected(data, num_hidden=2)
    assert to_float32("x", plain)[0] is plain
