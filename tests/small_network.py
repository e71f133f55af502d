"""Checkpoints of a small MobileNet with made-up weights, for tests that need some network or other."""

import numpy as np
import pytest

from insightface_mx import symbols
from insightface_mx.base.compat import mx
from insightface_mx.engine import prelu_library
from insightface_mx.formats import checkpoint

LENGTH = 32


def save(prefix, seed=0, length=LENGTH, head=False):
    """Write checkpoint PREFIX,1 of a network for images of 112x112; returns 'PREFIX,1'. head: with class weights."""
    embedding = symbols.get_symbol("m1", length, version_multiplier=0.0625, version_output="GAP")
    shapes, _, aux_shapes = embedding.infer_shape(data=(1, 3, 112, 112))
    draw = np.random.RandomState(seed)
    args = dict(zip(embedding.list_arguments(), shapes))
    del args["data"]
    arg_params = {name: mx.nd.array(_values(draw, name, shape)) for name, shape in args.items()}
    aux_params = {
        name: mx.nd.array(draw.uniform(0.5, 1.5, shape) if name.endswith("var") else draw.normal(0, 0.1, shape))
        for name, shape in zip(embedding.list_auxiliary_states(), aux_shapes)
    }
    symbol = embedding
    if head:
        fc7 = mx.sym.FullyConnected(embedding, num_hidden=5, name="fc7")
        symbol = mx.sym.Group([mx.sym.BlockGrad(embedding), mx.sym.SoftmaxOutput(fc7, name="softmax")])
        arg_params.update(fc7_weight=mx.nd.ones((5, length)), fc7_bias=mx.nd.ones(5))
    checkpoint.save(str(prefix), 1, symbol, arg_params, aux_params)
    return f"{prefix},1"


def plain_mxnet(model, images):
    """Embeddings of float images as MXNet alone computes them from a checkpoint 'PREFIX,EPOCH'."""
    prefix, epoch = checkpoint.parse(model)
    symbol, arg_params, aux_params = mx.model.load_checkpoint(prefix, epoch)
    fc1 = symbol.get_internals()["fc1_output"]
    data = mx.nd.array(np.asarray(images, np.float32))
    arguments = {name: data if name == "data" else arg_params[name] for name in fc1.list_arguments()}
    executor = fc1.bind(mx.cpu(), arguments, grad_req="null", aux_states=aux_params)
    return executor.forward(is_train=False)[0].asnumpy()


def own_cache(tmp_path_factory):
    """A fixture's function: ONNX files go into a cache folder of the test's own, compiled operators do not."""
    prelu_library.load_error()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def _values(draw, name, shape):
    if name.endswith("weight"):
        return draw.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape)
    if name.endswith("gamma"):
        return draw.uniform(0.1, 0.4, shape) if "relu" in name else np.ones(shape)
    return draw.normal(0, 0.1, shape)
