"""Denormal weights go, the outputs stay; MXNet's threads can be made to take such numbers for zero."""

import platform
import subprocess
import sys

import numpy as np
import pytest

from insightface_mx.base.compat import mx
from insightface_mx.engine import denormals


def test_flush_counts_and_spares_what_is_larger():
    weights = [1e-40, -1e-40, 0.0, 1e-21, -1e-19, 1.0]
    params = {"a": mx.nd.array(weights), "b": mx.nd.array([[2.0, 1e-45]])}
    array = params["a"]
    assert denormals.flush(params) == 4
    assert array.asnumpy().tolist() == np.float32([0, 0, 0, 0, -1e-19, 1]).tolist()
    assert params["b"].asnumpy().tolist() == [[2, 0]]
    assert denormals.flush(params) == 0
    assert denormals.flush(params, threshold=1e-18) == 1


def test_flush_leaves_the_file(tmp_path):
    path = str(tmp_path / "model-0000.params")
    mx.nd.save(path, {"arg:w": mx.nd.array(np.full(3, 1e-40))})
    before = (tmp_path / "model-0000.params").read_bytes()
    assert denormals.flush(mx.nd.load(path)) == 3
    assert (tmp_path / "model-0000.params").read_bytes() == before


def dying_network():
    """A symbol and parameters in which every second filter has weights of about 1e-40."""
    body = mx.sym.Variable("data")
    for i in range(3):
        body = mx.sym.Convolution(body, num_filter=16, kernel=(3, 3), no_bias=True, name=f"conv{i}")
        body = mx.sym.LeakyReLU(mx.sym.BatchNorm(body, name=f"bn{i}"), act_type="prelu", name=f"relu{i}")
    symbol = mx.sym.FullyConnected(body, num_hidden=8, name="fc1")
    arguments, _, _ = symbol.infer_shape(data=(2, 3, 10, 10))
    random, params = np.random.RandomState(0), {}
    for name, shape in zip(symbol.list_arguments(), arguments):
        values = random.normal(size=shape)
        if name.startswith("conv"):
            values[::2] *= 1e-40  # not by MXNet, whose threads may have been made to flush
        params[name] = mx.nd.array(values)
    return symbol, params


def test_outputs_stay():
    symbol, params = dying_network()

    def output():
        executor = symbol.simple_bind(mx.cpu(), data=(2, 3, 10, 10))
        executor.copy_params_from(params)
        return executor.forward(is_train=False)[0].asnumpy()

    before = output()
    assert denormals.flush(params) == 8 * 9 * (3 + 16 + 16)
    after = output()
    assert np.abs(after - before).max() <= 1e-6 * np.abs(before).max()


IN_A_NEW_PROCESS = """
import numpy as np
from insightface_mx.base.compat import mx
from insightface_mx.engine import denormals

print(denormals.flush_in_threads([mx.cpu(0), mx.cpu(1)]))
mx.nd.ones((1,), ctx=mx.cpu(2)).wait_to_read()
print(denormals.flush_in_threads([mx.cpu(2)]))
for context in mx.cpu(0), mx.cpu(1), mx.cpu(2):
    data, weight = mx.nd.full((4, 32, 16, 16), 1e-30, context), mx.nd.full((32, 32, 3, 3), 1e-10, context)
    print((mx.nd.Convolution(data, weight, kernel=(3, 3), num_filter=32, no_bias=True).asnumpy() != 0).mean())
print(np.float32(1e-30) * np.float32(1e-10) != 0)
"""


@pytest.mark.slow
@pytest.mark.skipif((platform.system(), platform.machine()) != ("Linux", "x86_64"), reason="needs x86-64 and glibc")
def test_threads_flush_where_they_start_after_the_call():
    done = subprocess.run([sys.executable, "-c", IN_A_NEW_PROCESS], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False", "0.0", "0.0", "1.0", "True"]


def test_no_c_library_to_ask(monkeypatch):
    monkeypatch.setattr(denormals.platform, "machine", lambda: "aarch64")
    with denormals._flushing():
        assert np.float32(1e-30) * np.float32(1e-10) != 0
