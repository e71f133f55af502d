"""Checkpoints: files that MXNet reads and writes, complete or not at all, and what is said about damaged ones."""

import os
import re

import harness
import numpy as np
import pytest

from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError
from insightface_mx.files import atomic, manifest
from insightface_mx.formats import checkpoint


def network():
    symbol = mx.sym.BatchNorm(mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=3, name="fc1"), name="bn")
    shapes = dict(zip(symbol.list_arguments(), symbol.infer_shape(data=(2, 4))[0]))
    arg_params = {name: mx.nd.random.normal(shape=shape) for name, shape in shapes.items() if name != "data"}
    aux_params = {"bn_moving_mean": mx.nd.ones((3,)), "bn_moving_var": mx.nd.zeros((3,))}
    return symbol, arg_params, aux_params


def equal(one, two):
    return one.keys() == two.keys() and all(np.array_equal(one[n].asnumpy(), two[n].asnumpy()) for n in one)


def test_mxnet_reads_what_we_save_and_we_read_what_it_saves(tmp_path):
    prefix, saved = str(tmp_path / "new" / "model"), network()
    checkpoint.save(prefix, 3, *saved)
    assert sorted(os.listdir(tmp_path / "new")) == ["model-0003.params", "model-symbol.json"]
    symbol, arg_params, aux_params = mx.model.load_checkpoint(prefix, 3)
    assert symbol.tojson() == saved[0].tojson()
    assert equal(arg_params, saved[1])
    assert equal(aux_params, saved[2])
    mx.model.save_checkpoint(str(tmp_path / "old"), 12, *saved)
    symbol, arg_params, aux_params = checkpoint.load(str(tmp_path / "old"), 12)
    assert symbol.tojson() == saved[0].tojson()
    assert equal(arg_params, saved[1])
    assert equal(aux_params, saved[2])


def test_an_interrupted_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic.atomic_path(str(path)) as temporary:
        with open(temporary, "w") as file:
            file.write("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot save .*model-0001\.params"):
        checkpoint.save(str(tmp_path / "file" / "model"), 1, *network())


@pytest.mark.parametrize("missing", [1, 10, 5000])
def test_a_disk_that_fills_up_during_a_save(tmp_path, missing):
    """MXNet itself says nothing where only the end of a file could not be written."""
    symbol, arg_params, aux_params = network()
    arg_params["fc1_weight"] = mx.nd.ones((3, 4000))
    prefix = str(tmp_path / "model")
    checkpoint.save(prefix, 1, symbol, arg_params, aux_params)
    before = (tmp_path / "model-0001.params").read_bytes()
    message = r"cannot save .*model-0001\.params: .* Is the disk full\?"
    with harness.no_file_over(len(before) - missing), pytest.raises(UserError, match=message):
        checkpoint.save(prefix, 1, symbol, {**arg_params, "fc1_bias": mx.nd.ones((3,))}, aux_params)
    assert (tmp_path / "model-0001.params").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["model-0001.params", "model-symbol.json"]


def test_a_file_is_on_disk_before_it_has_its_name(tmp_path, monkeypatch):
    """Contents are flushed, then the name is given, then the folder is flushed."""
    events = []
    replace, fsync = os.replace, os.fsync

    def flush(descriptor):
        events.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(os, "replace", lambda *paths: events.append("rename") or replace(*paths))
    atomic.save_text(str(tmp_path / "file"), "text")
    assert [name.rpartition("-")[0] or name for name in events] == [f"file.tmp{os.getpid()}", "rename", tmp_path.name]
    assert (tmp_path / "file").read_text() == "text"


def test_epochs(tmp_path):
    for name in (
        "m-0001.params",
        "m-0010.params",
        "m-12345.params",
        "m-1.params",
        "mm-0002.params",
        "m-0003.params.tmp",
    ):
        (tmp_path / name).write_text("")
    assert checkpoint.epochs(str(tmp_path / "m")) == [1, 10, 12345]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("../a,b/model,12", ("../a,b/model", [12])),
        ("model,0001", ("model", [1])),
        ("a,1/model,1|20|3", ("a,1/model", [1, 20, 3])),
        ("model", ("model", [])),
        ("a,b/model", ("a,b/model", [])),
        ("model,1|", ("model,1|", [])),
        ("model,-1", ("model,-1", [])),
        (",1", (",1", [])),
    ],
)
def test_parse_epochs(text, expected):
    assert checkpoint.parse_epochs(text) == expected


def test_parse():
    assert checkpoint.parse("../a,b/model,12") == ("../a,b/model", 12)


@pytest.mark.parametrize(
    "text", ["model", "model,", "model,x", ",1", "model,1|2", "", "model,²", "model," + "9" * 5000]
)
def test_parse_refuses_other_text(text):
    with pytest.raises(UserError, match="PREFIX,EPOCH"):
        checkpoint.parse(text)


def save_manifest(tmp_path, metadata):
    prefix = str(tmp_path / "m")
    (tmp_path / "m-0003.params").write_bytes(b"parameters")
    manifest.write(checkpoint.manifest_path(prefix, 3), [checkpoint.params_path(prefix, 3)], metadata)
    return prefix


def test_saved_image_size(tmp_path):
    prefix = save_manifest(tmp_path, {"options": {"image_size": "112,96"}, "step": 5})
    assert checkpoint.saved_image_size(prefix, 3) == (112, 96)
    assert checkpoint.saved_image_size(prefix, 4) is None
    (tmp_path / "m-0003.params").write_bytes(b"fewer")  # the parameters are not read for it
    assert checkpoint.saved_image_size(prefix, 3) == (112, 96)


@pytest.mark.parametrize(
    "metadata", [{}, {"options": {}}, {"options": {"image_size": "large"}}, {"options": {"image_size": 112}}]
)
def test_no_saved_image_size(tmp_path, metadata, caplog):
    assert checkpoint.saved_image_size(save_manifest(tmp_path, metadata), 3) is None
    assert not caplog.messages


@pytest.mark.parametrize("damage", [(b"112,96", b"112,112"), (b"{", b""), (b'"sha256"', b'"sha512"')])
def test_a_damaged_manifest_has_no_image_size(tmp_path, damage, caplog):
    prefix = save_manifest(tmp_path, {"options": {"image_size": "112,96"}})
    path = tmp_path / "m-0003.json"
    path.write_bytes(path.read_bytes().replace(*damage, 1))
    assert checkpoint.saved_image_size(prefix, 3) is None
    assert re.search(r"damaged manifest: .*m-0003\.json", caplog.text)


def test_a_missing_checkpoint_names_those_that_exist(tmp_path):
    prefix = str(tmp_path / "m")
    checkpoint.save(prefix, 1, *network())
    with pytest.raises(UserError, match=r"m-0002\.params does not exist; epochs found under this prefix: 1"):
        checkpoint.load(prefix, 2)
    with pytest.raises(UserError, match=r"none-symbol\.json does not exist; none found under this prefix"):
        checkpoint.load(str(tmp_path / "none"), 2)
    with pytest.raises(UserError, match=r"m-symbol\.json does not exist; none found under this prefix"):
        checkpoint.load(str(tmp_path / "no folder" / "m"), 2)


@pytest.mark.parametrize("damage", [lambda whole: whole[: len(whole) // 2], lambda _: b"no checkpoint"])
def test_damaged_parameters(tmp_path, damage):
    prefix, path = str(tmp_path / "m"), tmp_path / "m-0001.params"
    checkpoint.save(prefix, 1, *network())
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=r"m-0001\.params: not an MXNet file, or damaged"):
        checkpoint.load(prefix, 1)


def test_parameters_without_names(tmp_path):
    checkpoint.save(str(tmp_path / "m"), 1, *network())
    mx.nd.save(str(tmp_path / "m-0001.params"), [mx.nd.ones((2,))])
    with pytest.raises(UserError, match="holds no named parameters"):
        checkpoint.load(str(tmp_path / "m"), 1)


def test_a_damaged_graph(tmp_path):
    checkpoint.save(str(tmp_path / "m"), 1, *network())
    (tmp_path / "m-symbol.json").write_text("{")
    with pytest.raises(UserError, match=r"m-symbol\.json"):
        checkpoint.load(str(tmp_path / "m"), 1)


def test_without_prefix():
    assert checkpoint.without_prefix({"arg:a": 1, "aux:a": 2, "arg:arg:": 3}, "arg:") == {"a": 1, "arg:": 3}


def with_manifest(tmp_path):
    """Save a checkpoint with its manifest, and return its prefix."""
    prefix = str(tmp_path / "m")
    checkpoint.save(prefix, 1, *network())
    files = [checkpoint.symbol_path(prefix), checkpoint.params_path(prefix, 1)]
    manifest.write(checkpoint.manifest_path(prefix, 1), files, {"step": 5})
    return prefix


@pytest.mark.parametrize("name", ["m-0001.params", "m-symbol.json"])
def test_a_changed_checkpoint_with_a_manifest_is_refused(tmp_path, name):
    """One bit of a value or a digit of an attribute, which MXNet reads without a word."""
    prefix, path = with_manifest(tmp_path), tmp_path / name
    before = checkpoint.load(prefix, 1)
    content = bytearray(path.read_bytes())
    content[content.index(b'"num_hidden": "3"') + 15 if name.endswith("json") else 100] ^= 1
    path.write_bytes(content)
    message = rf"{re.escape(str(path))}: not what was saved .* changed or damaged after it was saved: get it again"
    with pytest.raises(UserError, match=message):
        checkpoint.load(prefix, 1)
    (tmp_path / "m-0001.json").unlink()
    assert checkpoint.load(prefix, 1)[1].keys() == before[1].keys()


@pytest.mark.parametrize("content", [b"{}", b"[" * 100000, b"\xff", b""])
def test_a_checkpoint_with_a_damaged_manifest_is_refused(tmp_path, content):
    prefix = with_manifest(tmp_path)
    (tmp_path / "m-0001.json").write_bytes(content)
    with pytest.raises(UserError, match=r"m-0001\.json: .* or remove .*m-0001\.json to use it as it is"):
        checkpoint.load(prefix, 1)


@pytest.mark.parametrize("name", ["m-0001.params", "m-symbol.json"])
def test_a_pipe_in_the_place_of_a_file(tmp_path, name):
    checkpoint.save(str(tmp_path / "m"), 1, *network())
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(UserError, match=rf"cannot open .*{name}: it is a pipe, not a file"):
        checkpoint.load(str(tmp_path / "m"), 1)


def test_shapes_without_values(tmp_path, monkeypatch):
    symbol = mx.sym.BatchNorm(mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=3, name="fc"), name="bn")
    arguments = {"fc_weight": mx.nd.ones((3, 5)), "fc_bias": mx.nd.ones(3)}
    checkpoint.save(str(tmp_path / "m"), 7, symbol, arguments, {"bn_moving_var": mx.nd.ones(3)})
    monkeypatch.setattr(mx.nd, "load", None)
    found, shapes = checkpoint.load_shapes(str(tmp_path / "m"), 7)
    assert found.list_outputs() == ["bn_output"]
    assert shapes == {"fc_weight": (3, 5), "fc_bias": (3,), "bn_moving_var": (3,)}
    with pytest.raises(UserError, match=r"m-0008\.params does not exist; epochs found under this prefix: 7"):
        checkpoint.load_shapes(str(tmp_path / "m"), 8)
