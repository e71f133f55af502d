"""Outputs replace results of their own kind, and nothing that something else needs."""

import pytest
import small_network
from harness import error_of, run

from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError
from insightface_mx.datasets import info, pairs
from insightface_mx.deploy import embed, export_onnx, import_onnx, model_slim, quantize
from insightface_mx.files import manifest
from insightface_mx.formats import checkpoint, overwrite

CONTENT = {
    "ONNX file": b"\x08\x07\x12",
    ".pth file": b"PK\x03\x04",
    "verification set": b"\x80\x02]q",
    "table of embeddings": b"name,label,face",
    "PNG image": b"\x89PNG\r\n",
}


@pytest.mark.parametrize("kind", CONTENT)
def test_a_file_of_another_kind_stays(tmp_path, kind):
    path = tmp_path / "output"
    overwrite.refuse_other_kind(str(path), kind, force=False)
    for content in (b"", CONTENT[kind]):
        path.write_bytes(content)
        overwrite.refuse_other_kind(str(path), kind, force=False)
    for content in (b"photo.jpg,3\n", b"name,label\na.jpg,1\n", b"\x12\x01\0\0\0\0\0\0", b"\xff\xd8\xff"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=rf"output is there already and is no {kind}: name another output, or give"):
            overwrite.refuse_other_kind(str(path), kind, force=False)
        overwrite.refuse_other_kind(str(path), kind, force=True)
    (tmp_path / "link").symlink_to(path)
    overwrite.refuse_other_kind(str(tmp_path / "link"), kind, force=False)
    for folder in (tmp_path, f"{tmp_path}/new/"):
        with pytest.raises(UserError, match=f"is a folder: name the {kind} to write"):
            overwrite.refuse_other_kind(str(folder), kind, force=True)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (export_onnx, "--model net,1 --output"),
        (export_onnx, "--model net,1 --torch"),
        (quantize, "--model net,1 --calibration x --pairs y --output"),
        (pairs, "--list x --output"),
        (info, "x --plot"),
        (embed, "x --model net,1 --output"),
    ],
    ids=["export", "export --torch", "quantise", "pairs", "plot", "embed"],
)
def test_commands_refuse_before_they_work(tmp_path, capsys, monkeypatch, command, words):
    """Here the output is parameters, or for embed its own list of photos."""
    monkeypatch.setattr("insightface_mx.base.errors.importlib.util.find_spec", lambda _: True)
    path = tmp_path / ("faces.csv" if command is embed else "net-0001.params")
    path.write_bytes(b"photo.jpg,3\n")
    message = error_of(capsys, command, *words.split(), path)
    assert "is there already and is no" in message
    assert path.read_bytes() == b"photo.jpg,3\n"


@pytest.fixture
def trained(tmp_path):
    """Save a checkpoint with a head and its manifest, and return its prefix."""
    prefix = str(tmp_path / "net")
    small_network.save(prefix, with_classifier=True)
    files = [checkpoint.symbol_path(prefix), checkpoint.params_path(prefix, 1)]
    manifest.write(checkpoint.manifest_path(prefix, 1), files, {"step": 5})
    return prefix


def body():
    """Return another network than the one that is there."""
    fc1 = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=2, no_bias=True, name="fc1")
    return fc1, {"fc1_weight": mx.nd.ones((2, 12))}, {}


def test_the_graph_of_another_checkpoint_stays(trained):
    with pytest.raises(
        UserError, match=r"net-symbol\.json is the graph of .*net-0001\.params: name another output, or"
    ):
        overwrite.refuse_needed_checkpoint(trained, 0, force=False)
    overwrite.refuse_needed_checkpoint(trained, 0, force=True)
    overwrite.refuse_needed_checkpoint(f"{trained}x", 0, force=False)


def test_the_graph_of_a_run_stays(trained, tmp_path):
    for name in ("net-0001.params", "net-0001.json"):
        (tmp_path / name).unlink()
    with pytest.raises(UserError, match=r"net-symbol\.json is the graph of a training run: name another"):
        overwrite.refuse_needed_checkpoint(trained, 0, force=False)
    (tmp_path / "net-state-3.json").write_text("{}")
    with pytest.raises(UserError, match=r"net-symbol\.json is the graph of the run whose states are .*net-state-\*"):
        overwrite.refuse_needed_checkpoint(trained, 0, force=False)


def test_an_earlier_result_is_replaced(tmp_path):
    prefix = str(tmp_path / "net")
    for step in (1, 2):
        overwrite.refuse_needed_checkpoint(prefix, 0, force=False)
        overwrite.save_checkpoint(prefix, 0, body(), {"step": step}, force=False)
        assert checkpoint.saved_metadata(prefix, 0)["step"] == step
        checkpoint.load(prefix, 0)
    symbol, *rest = body()
    other = mx.sym.L2Normalization(symbol, name="n")
    with pytest.raises(UserError, match=r"net-symbol\.json is the graph of other checkpoints: name another output, or"):
        overwrite.save_checkpoint(prefix, 0, (other, *rest), {}, force=False)
    assert checkpoint.load(prefix, 0)[0].list_outputs() == ["fc1_output"]
    overwrite.save_checkpoint(prefix, 0, (other, *rest), {}, force=True)
    assert checkpoint.load(prefix, 0)[0].list_outputs() == ["n_output"]


def test_what_force_leaves_is_consistent(trained, caplog):
    overwrite.save_checkpoint(trained, 0, body(), {}, force=True)
    assert manifest.read(checkpoint.manifest_path(trained, 1))["step"] == 5
    assert "net-0001.json now describes the new" in caplog.text
    assert checkpoint.load(trained, 1)[0].list_outputs() == ["fc1_output"]


def test_slim_and_import_refuse(trained, tmp_path, capsys):
    run(model_slim, "--model", f"{trained},1")
    run(model_slim, "--model", f"{trained},1")
    for name in ("symbol.json", "0001.params"):
        (tmp_path / f"nets-{name}").write_bytes((tmp_path / f"net-{name}").read_bytes())
    before = (tmp_path / "nets-symbol.json").read_bytes()
    message = error_of(capsys, model_slim, "--model", f"{trained},1")
    assert "nets-symbol.json is the graph of" in message
    assert (tmp_path / "nets-symbol.json").read_bytes() == before
    run(model_slim, "--model", f"{trained},1", "--force")
    assert (tmp_path / "nets-symbol.json").read_bytes() != before
    message = error_of(capsys, import_onnx, "none.onnx", "--output", trained)
    assert "net-symbol.json is the graph of" in message


def test_a_save_that_is_killed_leaves_no_stale_manifest(trained, monkeypatch):
    """The manifest of the old files goes before the new ones come."""
    symbol, arg_params, aux_params = checkpoint.load(trained, 1)
    monkeypatch.setattr(manifest, "write", lambda *_: pytest.fail("killed"))
    checkpoint.save(trained, 1, symbol, {**arg_params, "fc7_bias": mx.nd.zeros(5)}, aux_params)
    assert checkpoint.load(trained, 1)[1]["fc7_bias"].asnumpy().tolist() == [0] * 5
