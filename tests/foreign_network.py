"""A network that is not from here, as Gluon exports them: grey images, scaled outside, l2normalization1 at the end."""

from __future__ import annotations

import cv2
import numpy as np

from insightface_mx.base.compat import mx
from insightface_mx.formats import checkpoint

SIZE = (100, 100)
MEAN, SCALE = 127.5, 0.0078125
LENGTH = 12
OPTIONS = ("--embedding-node", "l2normalization1", "--pixel-mean", "127.5", "--pixel-scale", "0.0078125")


def save(prefix, channels: int = 1, length: int = LENGTH) -> str:
    """Write the checkpoint PREFIX,0, with a softmax behind the embedding, and return 'PREFIX,0'."""
    body = mx.sym.Variable("data")
    for index, filters in enumerate((8, 16)):
        name = f"hybridsequential0_conv{index}"
        body = mx.sym.Convolution(body, num_filter=filters, kernel=(3, 3), stride=(2, 2), name=f"{name}_fwd")
        body = mx.sym.BatchNorm(body, fix_gamma=False, eps=1e-5, name=f"hybridsequential0_batchnorm{index}_fwd")
        body = mx.sym.Activation(body, act_type="relu", name=f"hybridsequential0_relu{index}_fwd")
    body = mx.sym.Flatten(body, name="hybridsequential0_flatten0_flatten0")
    body = mx.sym.FullyConnected(body, num_hidden=length, name="hybridsequential0_dense0_fwd")
    embedding = mx.sym.L2Normalization(body, mode="instance", name="l2normalization1")
    logits = mx.sym.FullyConnected(embedding, num_hidden=7, name="hybridsequential0_dense1_fwd")
    symbol = mx.sym.SoftmaxOutput(logits, name="softmax")
    shapes, _, aux_shapes = symbol.infer_shape(data=(1, channels, *SIZE))
    rng = np.random.RandomState(3)
    args = {
        name: mx.nd.array(rng.normal(0, (2 / np.prod(shape[1:])) ** 0.5 if len(shape) > 1 else 0.2, shape))
        for name, shape in zip(symbol.list_arguments(), shapes)
        if name not in ("data", "softmax_label")
    }
    aux = {name: mx.nd.array(rng.uniform(0.5, 1.5, s)) for name, s in zip(symbol.list_auxiliary_states(), aux_shapes)}
    checkpoint.save(str(prefix), 0, symbol, args, aux)
    return f"{prefix},0"


def expected(model: str, images: np.ndarray, node: str = "l2normalization1") -> np.ndarray:
    """Compute embeddings with plain MXNet and OpenCV.

    Args:
        model: What `save` returned.
        images: (n, 3, *SIZE) uint8, RGB.
        node: Whose output is returned.
    """
    prefix, epoch = checkpoint.parse(model)
    symbol, args, aux = mx.model.load_checkpoint(prefix, epoch)
    embedding = symbol.get_internals()[f"{node}_output"]
    is_grey = args["hybridsequential0_conv0_fwd_weight"].shape[1] == 1
    pixels = np.stack([cv2.cvtColor(image.transpose(1, 2, 0), cv2.COLOR_RGB2GRAY)[None] for image in images])
    data = ((pixels if is_grey else images).astype(np.float32) - np.float32(MEAN)) * np.float32(SCALE)
    values = {name: mx.nd.array(data) if name == "data" else args[name] for name in embedding.list_arguments()}
    executor = embedding.bind(mx.cpu(), values, grad_req="null", aux_states=aux)
    return executor.forward(is_train=False)[0].asnumpy()
