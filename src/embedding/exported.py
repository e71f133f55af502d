"""Checkpoints as ONNX files: written and proven against MXNet on first use, and stored in the user's cache folder.

The name of a stored file is a hash of the checkpoint and of how it takes images.
"""

from __future__ import annotations

import hashlib
import logging
import os
from typing import NamedTuple

import numpy as np

from insightface_mx.base.errors import UserError
from insightface_mx.cli.types import Size
from insightface_mx.conversion import export, proof
from insightface_mx.engine import face_network
from insightface_mx.engine.network_input import NetworkInput
from insightface_mx.files import atomic, cache, sealed
from insightface_mx.files.safe_npz import read_npy
from insightface_mx.formats import checkpoint


class Unfit(UserError):
    """A back end cannot run a network, or computes something else."""


class Exported(NamedTuple):
    """A proven ONNX file, and MXNet's embeddings of the images that prove it, `proof.make_images`."""

    path: str
    expected: np.ndarray


def export_once(model: str, image_size: Size, network_input: NetworkInput) -> Exported:
    """Return a checkpoint as an ONNX file, from the cache folder if it is there.

    Args:
        model: 'PREFIX,EPOCH'.
        image_size: Height and width.
        network_input: How the checkpoint's graph takes images.

    Raises:
        UserError: The checkpoint is missing, damaged or does not fit.
        Unfit: It has no ONNX form, or the file cannot be stored.
    """
    stem = _stored_stem(model, image_size, network_input)
    path, expected = f"{stem}.onnx", f"{stem}.npy"
    if not sealed.is_intact(f"{stem}.json", [path, expected]):
        network = export.load_network(model, image_size, network_input=network_input)
        logging.info("writing %s as an ONNX file, once: %s", model, path)
        try:
            with atomic.report_write_errors(path):
                sealed.discard([f"{stem}.json", path, expected])
            _write(network, stem)
        except UserError as error:
            raise Unfit(str(error)) from error
    return Exported(path, read_npy(expected))


def _write(network: export.Network, stem: str) -> None:
    """Write the file, what it must compute, and last the seal of both."""
    path, expected = f"{stem}.onnx", f"{stem}.npy"
    images = proof.make_images(network.image_size)
    export.export(network, path, images)
    run = proof.mxnet_runner(network.symbol, network.params, images.shape)
    with atomic.report_write_errors(expected):
        with atomic.atomic_path(expected) as temporary, open(temporary, "wb") as file:
            np.save(file, run(images)[0])
        sealed.seal(f"{stem}.json", [path, expected])


def _stored_stem(model: str, image_size: Size, network_input: NetworkInput) -> str:
    """Return the path of the stored files of a checkpoint, without an ending."""
    prefix, epoch = checkpoint.parse(model)
    metadata = checkpoint.saved_metadata(prefix, epoch)
    input_text = repr(sorted(network_input.or_else(face_network.saved_input(metadata)).given().items()))
    content = hashlib.sha256(f"{tuple(image_size)!r}{input_text}".encode())
    try:
        for part in (checkpoint.symbol_path(prefix), checkpoint.params_path(prefix, epoch)):
            cache.hash_file(content, part)
    except OSError as error:
        raise UserError(f"cannot open {error.filename}: {error.strerror}; give the model as PREFIX,EPOCH") from error
    try:
        return os.path.join(sealed.private_folder("networks"), content.hexdigest()[:24])
    except (OSError, RuntimeError) as error:  # RuntimeError: no home folder
        raise Unfit(f"no folder for ONNX files ({error}): set XDG_CACHE_HOME to one of your own") from error
