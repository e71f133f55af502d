"""Quantise ONNX files to int8 with NNCF, OpenVINO's quantiser, which is an extra."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import sys

import numpy as np

from insightface_mx.base.errors import UserError, pip_command
from insightface_mx.onnx_files.file import DESCRIPTION, INT8_PRODUCER, require_onnx

OPSET = 13  # the first that has a scale for every channel


def is_installed() -> bool:
    """Return whether int8 files can be made."""
    return importlib.util.find_spec("nncf") is not None


def require_nncf() -> None:
    """Raise UserError with the pip command where a package for int8 is missing."""
    require_onnx()
    if not is_installed():
        raise UserError(f"int8 needs nncf: before Python 3.10 pip install nncf, otherwise {pip_command('deploy')}")


def quantize(source: str, target: str, images: np.ndarray) -> None:
    """Write the float32 ONNX file `source`, with its norms folded, as the int8 file `target`.

    Args:
        source: What export wrote with fold_norms.
        target: The file to write.
        images: (n, 3, height, width) float32, RGB of 0..255, for the ranges of activations.

    Raises:
        UserError: nncf or onnx is not installed.
    """
    require_nncf()
    os.environ.setdefault("NNCF_CI", "1")  # otherwise nncf reports its use over the network
    import nncf
    import onnx
    from onnx import version_converter

    logging.getLogger("nncf").setLevel(logging.ERROR)  # it gives advice on PyTorch otherwise
    model = version_converter.convert_version(onnx.load(source), OPSET)
    batches = nncf.Dataset([{"data": image[np.newaxis]} for image in images])
    with contextlib.redirect_stdout(sys.stderr):  # for its progress bars
        model = nncf.quantize(model, batches, subset_size=len(images), preset=nncf.QuantizationPreset.MIXED)
    model.producer_name, model.doc_string = INT8_PRODUCER, DESCRIPTION
    onnx.save(model, target)
