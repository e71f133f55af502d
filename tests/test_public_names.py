"""Every name that other programs may import: the README's, the original's, and the package's front door."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import insightface_mx

FRONT_DOOR = {
    "Embedder": "embedding.embedder",
    "FaceImageIter": "image_iter",
    "FaceModel": "deploy.face_model",
    "MtcnnDetector": "detection.detector",
    "evaluate": "eval.roc",
    "get_symbol": "symbols",
    "load_bin": "eval.pairs",
    "preprocess": "alignment",
}
PROMISED = {  # module -> names
    "alignment": ["preprocess"],
    "compat": ["mx"],
    "deploy.face_model": ["FaceModel"],
    "deploy.mtcnn_detector": ["MtcnnDetector"],
    "embedder": ["Embedder"],
    "errors": ["UserError"],
    "eval.embedding": ["load_bin", "test", "embed", "load_model"],
    "eval.verification": ["load_bin", "test", "evaluate", "main"],
    "image_iter": ["FaceImageIter"],
    "losses": ["arcface"],
    "symbols": ["from_config", "get_symbol", "get_initializer", "NAMES"],
    "symbols.fdensenet": ["get_symbol"],
    "symbols.finception_resnet_v2": ["get_symbol"],
    "symbols.fdpn": ["get_symbol"],
    "symbols.fmobilefacenet": ["get_symbol"],
    "symbols.fmobilenet": ["get_symbol"],
    "symbols.fmobilenetv2": ["get_symbol"],
    "symbols.fnasnet": ["get_symbol"],
    "symbols.fresnet": ["get_symbol"],
    "symbols.fxception": ["get_symbol", "stack_channels"],
    "symbols.spherenet": ["get_symbol"],
    "train_softmax": ["main"],
    "train_triplet": ["main"],
}
HEAVY = ["mxnet", "cv2", "numpy", "sklearn", "scipy", "onnx", "onnxruntime", "openvino", "torch"]


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, names in PROMISED.items() for name in names])
def test_a_promised_name_can_be_imported(module, name):
    assert getattr(importlib.import_module(f"insightface_mx.{module}"), name) is not None


def test_the_front_door_lists_its_names():
    assert set(insightface_mx.__all__) == {*FRONT_DOOR, "__version__"}
    assert set(insightface_mx.__all__) <= set(dir(insightface_mx))
    assert insightface_mx.__version__ == "0.1.0"


@pytest.mark.parametrize(("name", "module"), FRONT_DOOR.items())
def test_the_front_door_gives_the_object_itself(name, module):
    defined = getattr(importlib.import_module(f"insightface_mx.{module}"), name)
    assert getattr(insightface_mx, name) is defined
    assert name in dir(insightface_mx)


def test_an_unknown_name():
    with pytest.raises(AttributeError, match="module 'insightface_mx' has no attribute 'Embeder'"):
        insightface_mx.Embeder  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'Embeder'"):
        exec("from insightface_mx import Embeder")


def test_the_import_loads_nothing_heavy():
    code = (
        "import sys; import insightface_mx; names = dir(insightface_mx)\n"
        "print(insightface_mx.__version__, [name for name in sys.argv[1:] if name in sys.modules], 'Embedder' in names)"
    )
    done = subprocess.run([sys.executable, "-c", code, *HEAVY], capture_output=True, text=True, check=True)
    assert done.stdout == "0.1.0 [] True\n"
