"""Face recognition on Apache MXNet: the 2018 InsightFace (ArcFace) code on today's Python.

The names in `__all__` are the front door. Each is imported when it is first used, so that `import insightface_mx` is
fast and loads neither MXNet nor OpenCV. Their types are in __init__.pyi.
"""

from __future__ import annotations

import importlib

from insightface_mx.base import __version__

_MODULES = {  # name -> module that defines it
    "Embedder": "embedding.embedder",
    "FaceImageIter": "image_iter",
    "FaceModel": "deploy.face_model",
    "MtcnnDetector": "detection.detector",
    "evaluate": "eval.roc",
    "get_symbol": "symbols",
    "load_bin": "eval.pairs",
    "preprocess": "alignment",
}
__all__ = [
    "Embedder",
    "FaceImageIter",
    "FaceModel",
    "MtcnnDetector",
    "__version__",
    "evaluate",
    "get_symbol",
    "load_bin",
    "preprocess",
]


def __getattr__(name: str) -> object:
    """Import a name of the front door (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the names of the front door, imported yet or not."""
    return sorted({*globals(), *__all__})
