"""MXNet's lines that say nothing do not appear, and everything else on standard error does."""

import os

import cv2
import pytest
import small_network
from harness import orl_photo, run

from insightface_mx.base.compat import mx
from insightface_mx.base.quiet import quiet_mxnet
from insightface_mx.conversion import proof
from insightface_mx.deploy import compare, export_onnx
from insightface_mx.formats.checkpoint import load_symbol

own_cache = pytest.fixture(autouse=True, scope="module")(small_network.own_cache)


def bind():
    dense = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=3)
    return dense.simple_bind(mx.cpu(), grad_req="null", data=(1, 4))


def test_mxnet_s_lines_are_dropped(capfd, monkeypatch):
    with quiet_mxnet():
        bind()
        monkeypatch.setenv(proof.FUSION_VARIABLE, "NONE")
        bind()
    assert capfd.readouterr().err == ""
    bind()  # as long as this line is there, the module is needed
    assert "MXNET_SUBGRAPH_BACKEND=NONE is detected" in capfd.readouterr().err


def test_a_graph_of_an_older_version(tmp_path, capfd):
    path = tmp_path / "net-symbol.json"
    path.write_text(mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=3).tojson().replace("10901", "10000"))
    assert load_symbol(str(path)).list_arguments()[0] == "data"
    assert capfd.readouterr().err == ""
    mx.sym.load(str(path))
    assert "Loading symbol saved by previous version v1.0.0" in capfd.readouterr().err


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
