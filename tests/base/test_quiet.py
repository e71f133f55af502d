"""MXNet's lines that say nothing do not appear, and everything else on standard error does."""

import os
import subprocess
import sys

import cv2
import pytest
import small_network
from harness import orl_photo, run

from insightface_mx.base.compat import mx
from insightface_mx.base.quiet import quiet_mxnet
from insightface_mx.conversion import proof
from insightface_mx.deploy import compare, export_onnx

own_cache = pytest.fixture(autouse=True, scope="module")(small_network.own_cache)


IMPORTS = """
from insightface_mx.base.compat import mx
from insightface_mx.base.quiet import quiet_mxnet
from insightface_mx.formats.checkpoint import load_symbol
"""


def lines_of(code, environment=()):
    """What a new process says on standard error: MXNet's own stream is dead where a test has once filled its disk."""
    command, variables = [sys.executable, "-c", IMPORTS + code], {**os.environ, **dict(environment)}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=variables).stderr


def bind():
    dense = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=3)
    return dense.simple_bind(mx.cpu(), grad_req="null", data=(1, 4))


BIND = "mx.sym.FullyConnected(mx.sym.var('data'), num_hidden=3).simple_bind(mx.cpu(), data=(1, 4), grad_req='null')"


@pytest.mark.slow
@pytest.mark.parametrize("fusion", [{}, {proof.FUSION_VARIABLE: "NONE"}], ids=["dense", "all"])
def test_mxnet_s_lines_are_dropped(fusion):
    assert lines_of(f"with quiet_mxnet(): {BIND}", fusion) == ""
    line = "MXNET_SUBGRAPH_BACKEND=NONE is detected" if fusion else "is disabled."
    assert line in lines_of(BIND, fusion)  # as long as this line is there, the module is needed


@pytest.mark.slow
def test_a_graph_of_an_older_version(tmp_path):
    path = tmp_path / "net-symbol.json"
    path.write_text(mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=3).tojson().replace("10901", "10000"))
    assert lines_of(f"assert load_symbol({str(path)!r}).list_arguments()[0] == 'data'") == ""
    assert "Loading symbol saved by previous version v1.0.0" in lines_of(f"mx.sym.load({str(path)!r})")


@pytest.mark.slow
def test_other_lines_stay_in_their_order(capfd):
    with pytest.raises(KeyError), quiet_mxnet():
        os.write(2, b"one\n")
        bind()
        os.write(2, b"two is disabled.\n")
        raise KeyError
    os.write(2, b"three")
    assert capfd.readouterr().err == "one\ntwo is disabled.\nthree"


def test_a_closed_standard_error(capfd):
    stderr = os.dup(2)
    os.close(2)
    try:
        with quiet_mxnet():
            assert bind().outputs[0].shape == (1, 3)
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


@pytest.mark.slow
def test_commands_are_quiet(tmp_path, capfd):
    model = small_network.save(tmp_path / "net")
    photos = [str(tmp_path / f"{person}.png") for person in (1, 2)]
    for person, path in enumerate(photos, 1):
        cv2.imwrite(path, orl_photo(person, 1))
    run(export_onnx, "--model", model, "--output", tmp_path / "net.onnx")
    for backend in ("mxnet", "onnxruntime"):
        run(compare, *photos, "--model", model, "--backend", backend)
    found = capfd.readouterr()
    assert found.out.count("distance") == 2
    assert "graph_executor" not in found.err
