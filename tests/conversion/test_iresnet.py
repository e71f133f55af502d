"""State dicts of arcface_torch's iresnet: they become checkpoints and come back."""

import importlib.util
import os
import sys
import types
import zipfile
from typing import NamedTuple

import numpy as np
import pytest
from harness import error_of, run
from iresnet_files import state_dict, write_iresnet
from mobilefacenet_files import MBF_LARGE, write_mobilefacenet
from onnx_networks import load_params, random_params

from insightface_mx.base.errors import UserError
from insightface_mx.conversion import iresnet
from insightface_mx.deploy import export_onnx, import_onnx
from insightface_mx.symbols import get_symbol
from insightface_mx.training.fine_tuning import load_pretrained

WRAPPED = {
    "module": lambda state: {f"module.{name}": value for name, value in state.items()},
    "backbone": lambda state: {f"backbone.{name}": value for name, value in state.items()},
    "both": lambda state: {f"module.backbone.{name}": value for name, value in state.items()},
    "with a head": lambda state: {**WRAPPED["backbone"](state), "head.weight": np.zeros((5, 32))},
    "nested": lambda state: {"epoch": 3, "state_dict": WRAPPED["module"](state), "optimizer": {"lr": 0.1}},
    "nested twice": lambda state: {"model": {"state_dict": state}},
}
SAID = {
    "module": "the names in the state dict begin with module.: taken without it",
    "backbone": "begin with backbone.: taken without it",
    "both": "begin with module.backbone.: taken without it",
    "with a head": "begin with backbone.: taken without it; left out: head.weight (1 in all)",
    "nested": "the state dict is the entry state_dict of the file",
    "nested twice": "the state dict is the entry model of the file",
}
TORCH = importlib.util.find_spec("torch")


@pytest.mark.slow
def test_an_iresnet_is_an_r18_from_its_onnx_file_and_from_its_state_dict(tmp_path, capsys):
    state, path = state_dict(), str(tmp_path / "backbone.onnx")
    write_iresnet(state, path)
    run(import_onnx, path, "--output", tmp_path / "r18")
    assert "is r18 version_input 1 version_unit 3 version_se 0 version_act prelu" in capsys.readouterr().out
    found = load_params(tmp_path / "r18")
    name, symbol, params = iresnet.from_state(state)
    assert name == "r18"
    assert set(found) == set(params)
    for key, value in params.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-5, atol=1e-7, err_msg=key)
    np.testing.assert_allclose(params["conv0_weight"], state["conv1.weight"] * 128 / 127.5, rtol=1e-6)
    inputs = ("data", "softmax_label")
    load_pretrained(
        f"{tmp_path}/r18,0", symbol, (1, 3, 112, 112), inputs
    )  # raises where training could not go on from it


def test_a_state_dict_comes_back_as_it_went():
    state = state_dict()
    state["features.weight"] = np.linspace(-2, 2, 32).astype(np.float32)
    _, symbol, params = iresnet.from_state(dict(state))
    back = iresnet.to_state(symbol, params)
    assert set(back) == set(state)
    dense = [f"{name}.{key}" for name, key in (("fc", "weight"), ("fc", "bias"), ("features", "running_mean"))]
    for key in set(state) - {*dense, "features.weight"} - {key for key in state if key.endswith("tracked")}:
        np.testing.assert_allclose(back[key], state[key], rtol=1e-6, atol=1e-8, err_msg=key)
    for key in dense:  # they have taken the last norm's factor in
        factor = state["features.weight"].reshape(-1, *[1] * (state[key].ndim - 1))
        np.testing.assert_allclose(back[key], state[key] * factor, rtol=1e-5)
    assert np.all(back["features.weight"] == 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fc.bias": None}, "has no fc.bias: it is not arcface_torch's iresnet18"),
        ({"extra.weight": np.zeros(1)}, "has extra.weight, which arcface_torch's iresnet18 does not have"),
        ({"layer4.2.bn1.weight": np.zeros(1)}, r"has \(2, 2, 2, 3\) units in its four stages"),
    ],
)
def test_another_state_dict_is_refused(change, message):
    state = {key: value for key, value in {**state_dict(), **change}.items() if value is not None}
    with pytest.raises(UserError, match=message):
        iresnet.from_state(state)


@pytest.mark.slow
@pytest.mark.parametrize("wrap", list(WRAPPED))
def test_what_training_programs_put_around_a_state_dict_is_taken_off(wrap, caplog):
    caplog.set_level("INFO")
    state = state_dict()
    name, _, params = iresnet.from_state(WRAPPED[wrap](state))
    assert name == "r18"
    assert np.array_equal(params["fc1_beta"], state["features.bias"].astype(np.float32))
    assert set(params) == set(iresnet.from_state(state)[2])
    assert SAID[wrap] in caplog.text


LARGE_BLOCKS = [(layer, block) for layer, blocks in zip((1, 3, 5, 7), MBF_LARGE) for block in range(blocks)]


def test_a_mobilefacenet_is_named_and_sent_where_it_is_read(tmp_path):
    state = write_mobilefacenet(str(tmp_path / "mbf.onnx"))
    named = r"of arcface_torch's MobileFaceNet, not of an iresnet: "
    with pytest.raises(UserError, match=named + "insightface-import-onnx reads it from the ONNX file"):
        iresnet.from_state({f"module.{name}": value for name, value in state.items()})
    other = {**state, "layers.3.layers.4.layers.0.layers.0.weight": np.zeros((128, 128, 1, 1))}
    with pytest.raises(UserError, match=named + r"no network here has its \[1, 5, 6, 2\] blocks"):
        iresnet.from_state(other)
    large = dict.fromkeys(f"layers.{layer}.layers.{block}.layers.0.layers.0.weight" for layer, block in LARGE_BLOCKS)
    with pytest.raises(UserError, match=named + "insightface-import-onnx reads it from the ONNX file"):
        iresnet.from_state(large)


def test_a_file_with_a_state_dict_inside_is_loaded(monkeypatch, tmp_path):
    """With a module in place of PyTorch that has what `load` uses of it."""

    class Tensor(NamedTuple):
        array: np.ndarray

        def float(self):
            return Tensor(self.array.astype(np.float32))

        def numpy(self):
            return self.array

        def numel(self):
            return self.array.size

        def element_size(self):
            return self.array.itemsize

    content = {
        "epoch": 3,
        "state_dict_backbone": {"module.conv1.weight": Tensor(np.ones(2)), "module.fc.weight": Tensor(np.ones(3))},
    }
    torch = types.SimpleNamespace(load=lambda *_, **__: content, Tensor=Tensor, __version__="2.6.0")
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(iresnet, "require", lambda *_: None)
    (tmp_path / "a.pth").write_bytes(b"PK\x03\x04 as PyTorch writes" * 9)
    found = iresnet.load(str(tmp_path / "a.pth"))
    assert {name: array.dtype for name, array in found.items()} == {"conv1.weight": np.float32, "fc.weight": np.float32}


def test_only_an_iresnet_becomes_a_state_dict():
    symbol = get_symbol("r18", 32, version_unit=2)
    with pytest.raises(UserError, match="only r18, r34, r50 and r100"):
        iresnet.to_state(symbol, random_params(symbol, (1, 3, 112, 112)))


@pytest.mark.skipif(TORCH is not None, reason="PyTorch is installed")
def test_without_pytorch_the_command_says_what_to_install(tmp_path, capsys):
    error = error_of(capsys, import_onnx, "--torch", "backbone.pth", "--output", tmp_path / "r18")
    assert "pip install '.[torch]'" in error


@pytest.mark.parametrize(
    ("version", "is_safe"),
    [
        ("1.13.1+cu117", False),
        ("2.4.1", False),
        ("2.5.1+cpu", False),
        ("2.6.0", True),
        ("2.10.0a0", True),
        ("3.0", True),
    ],
)
def test_a_pytorch_that_may_run_code_is_refused(tmp_path, capsys, monkeypatch, version, is_safe):
    (tmp_path / "torch.py").write_text(
        f"__version__ = {version!r}\ndef load(file, **options):\n    raise ValueError('read')"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    (tmp_path / "a.pth").write_bytes(b"x")
    error = error_of(capsys, import_onnx, "--torch", tmp_path / "a.pth", "--output", tmp_path / "r18")
    assert ("is no state dict, or damaged: read" in error) == is_safe
    reason = (
        f"PyTorch {version} can be made to run code by a .pth file (CVE-2025-32434): pip install 'torch>=2.6', which"
    )
    assert (reason in error) != is_safe
    sys.modules.pop("torch", None)


def test_pth_files_that_are_none(tmp_path, capsys, monkeypatch):
    """With a PyTorch of this test that reads anything."""
    lines = ["class Tensor:", "    numel = lambda self: 9", "    element_size = lambda self: 4", "__version__ = '2.6'"]
    (tmp_path / "torch.py").write_text("\n".join([*lines, "load = lambda file, **options: eval(file.read())"]))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    path = tmp_path / "a.pth"
    for content, message in (
        (b"{'a': Tensor()}", "claims more numbers than it holds"),
        (b"{1: Tensor()}", "is no state dict: save the backbone's state_dict() alone"),
        (b"[]", "is no state dict"),
        (b"{}", "is no state dict"),
    ):
        path.write_bytes(content)
        assert f"error: {path} {message}" in error_of(capsys, import_onnx, "--torch", path, "--output", tmp_path / "r")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(9999))
    error = error_of(capsys, import_onnx, "--torch", path, "--output", tmp_path / "r")
    assert f"{path} is compressed, which PyTorch does not do" in error
    os.remove(path)
    os.mkfifo(path)
    assert "it is a pipe, not a file" in error_of(capsys, import_onnx, "--torch", path, "--output", tmp_path / "r")
    sys.modules.pop("torch", None)


@pytest.mark.skipif(TORCH is None, reason="needs PyTorch, an extra")
def test_pytorch_reads_and_writes_the_same(tmp_path, capsys):
    import torch

    state = {key: torch.from_numpy(np.asarray(value)) for key, value in state_dict().items()}
    torch.save(state, tmp_path / "backbone.pth")
    run(import_onnx, "--torch", tmp_path / "backbone.pth", "--output", tmp_path / "r18")
    run(export_onnx, "--model", f"{tmp_path}/r18,0", "--torch", tmp_path / "back.pth")
    assert capsys.readouterr().out.count("largest relative difference") == 2
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    assert all(torch.allclose(back[key], state[key], rtol=1e-5) for key in state if not key.endswith("tracked"))
    (tmp_path / "bad.pth").write_bytes(b"no state dict")
    with pytest.raises(UserError, match=r"bad\.pth is no state dict, or damaged"):
        iresnet.load(str(tmp_path / "bad.pth"))
