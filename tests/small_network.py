"""Checkpoints of a small MobileNet with random weights, for tests that need any network."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Iterator

import numpy as np
import pytest

from insightface_mx import symbols
from insightface_mx.base.compat import mx
from insightface_mx.engine import prelu_library
from insightface_mx.formats import checkpoint

LENGTH = 32  # of an embedding


def save(prefix: str | os.PathLike[str], seed: int = 0, length: int = LENGTH, with_classifier: bool = False) -> str:
    """Write checkpoint PREFIX,1 of a network for images of 112x112.

    Args:
        prefix: Path of the checkpoint.
        seed: Of the weights.
        length: Of an embedding.
        with_classifier: Add the class weights that training adds.

    Returns:
        'PREFIX,1'.
    """
    embedding = symbols.get_symbol("m1", length, version_multiplier=0.0625, version_output="GAP")
    shapes, _, aux_shapes = embedding.infer_shape(data=(1, 3, 112, 112))
    rng = np.random.RandomState(seed)
    args = dict(zip(embedding.list_arguments(), shapes))
    del args["data"]
    arg_params = {name: mx.nd.array(_weights(rng, name, shape)) for name, shape in args.items()}
    aux_params = {
        name: mx.nd.array(rng.uniform(0.5, 1.5, shape) if name.endswith("var") else rng.normal(0, 0.1, shape))
        for name, shape in zip(embedding.list_auxiliary_states(), aux_shapes)
    }
    symbol = embedding
    if with_classifier:
        fc7 = mx.sym.FullyConnected(embedding, num_hidden=5, name="fc7")
        symbol = mx.sym.Group([mx.sym.BlockGrad(embedding), mx.sym.SoftmaxOutput(fc7, name="softmax")])
        arg_params.update(fc7_weight=mx.nd.ones((5, length)), fc7_bias=mx.nd.ones(5))
    checkpoint.save(str(prefix), 1, symbol, arg_params, aux_params)
    return f"{prefix},1"


def save_for_face_model(folder: Path) -> dict[str, str]:
    """Write an embedding and a gender-age network; returns them as FaceModel's options."""
    return {"model": save(folder / "net"), "ga_model": save(folder / "ga", seed=1, length=202)}


def plain_mxnet(model: str, images: np.ndarray) -> np.ndarray:
    """Compute embeddings by MXNet alone, without the project's code for inference.

    Args:
        model: 'PREFIX,EPOCH'.
        images: (n, 3, height, width).

    Returns:
        (n, length), not scaled.
    """
    prefix, epoch = checkpoint.parse(model)
    symbol, arg_params, aux_params = mx.model.load_checkpoint(prefix, epoch)
    fc1 = symbol.get_internals()["fc1_output"]
    data = mx.nd.array(np.asarray(images, np.float32))
    arguments = {name: data if name == "data" else arg_params[name] for name in fc1.list_arguments()}
    executor = fc1.bind(mx.cpu(), arguments, grad_req="null", aux_states=aux_params)
    return executor.forward(is_train=False)[0].asnumpy()


def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Be a fixture's function: ONNX files go into a cache folder of the test's own, compiled operators do not."""
    prelu_library.load_error()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def _weights(rng: np.random.RandomState, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name.endswith("weight"):
        return rng.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape)
    if name.endswith("gamma"):
        return rng.uniform(0.1, 0.4, shape) if "relu" in name else np.ones(shape)
    return rng.normal(0, 0.1, shape)
