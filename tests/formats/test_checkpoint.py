import os
import resource

import numpy as np
import pytest

from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError
from insightface_mx.formats import atomic, checkpoint


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
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) - missing, hard))
    try:
        with pytest.raises(UserError, match=r"cannot save .*model-0001\.params: .* Is the disk full\?"):
            checkpoint.save(prefix, 1, symbol, {**arg_params, "fc1_bias": mx.nd.ones((3,))}, aux_params)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
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
    assert events == [f"file.tmp{os.getpid()}", "rename", tmp_path.name]
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


def test_parse():
    assert checkpoint.parse("../a,b/model,12") == ("../a,b/model", 12)
    for text in ("model", "model,", "model,x", ",1"):
        with pytest.raises(UserError, match="PREFIX,EPOCH"):
            checkpoint.parse(text)


def test_missing_truncated_foreign(tmp_path):
    prefix = str(tmp_path / "m")
    checkpoint.save(prefix, 1, *network())
    with pytest.raises(UserError, match=r"m-0002\.params does not exist; epochs found under this prefix: 1"):
        checkpoint.load(prefix, 2)
    whole = (tmp_path / "m-0001.params").read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"not a checkpoint"):
        (tmp_path / "m-0001.params").write_bytes(content)
        with pytest.raises(UserError, match=r"m-0001\.params: not an MXNet file, or damaged"):
            checkpoint.load(prefix, 1)
    mx.nd.save(str(tmp_path / "m-0001.params"), [mx.nd.ones((2,))])
    with pytest.raises(UserError, match="holds no named parameters"):
        checkpoint.load(prefix, 1)
    (tmp_path / "m-symbol.json").write_text("{")
    with pytest.raises(UserError, match=r"m-symbol\.json"):
        checkpoint.load(prefix, 1)
