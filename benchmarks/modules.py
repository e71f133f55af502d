"""What the benchmarks share: networks as bound Modules, with and without the fast graph for CPUs."""

import logging

import numpy as np

from insightface_mx import losses, symbols
from insightface_mx.base.compat import mx
from insightface_mx.engine import cpu_rewrite, denormals, module_state
from insightface_mx.engine.optimizer import SGD
from insightface_mx.options import LossOptions

SIZE = (112, 112)  # pixels
EMB_SIZE = 512


def prepare():
    """What the commands do first: see to denormal numbers, and show the log."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    denormals.flush_in_threads([mx.cpu()])


def images(batch):
    """Made-up images, batch x 3 x height x width, of 0..255."""
    return np.random.RandomState(0).randint(0, 256, (batch, 3, *SIZE)).astype(np.float32)


def plain_inference(network, symbol, batch):
    """A Module of the plain graph of a network's symbol, for inference, with random weights."""
    module = mx.mod.Module(symbol, label_names=None)
    module.bind([("data", (batch, 3, *SIZE))], for_training=False)
    module.init_params(symbols.get_initializer(network))
    return module


def training_module(network, batch, classes, fast):
    """A Module with ArcFace and SGD, and the made-up batch to train on; fast: graph and SGD in the forms for CPUs."""
    symbol = losses.training_symbol(symbols.get_symbol(network, EMB_SIZE), classes, LossOptions(), EMB_SIZE)
    inputs = {"data": (batch, 3, *SIZE), "softmax_label": (batch,)}
    module = mx.mod.Module(cpu_rewrite.rewrite(symbol, None, inputs) if fast else symbol, context=mx.cpu())
    module.bind([("data", inputs["data"])], [("softmax_label", inputs["softmax_label"])])
    mx.random.seed(1)
    module.init_params(symbols.get_initializer(network))
    sgd = {"learning_rate": 1e-4, "momentum": 0.9, "wd": 5e-4, "rescale_grad": 1.0}
    module_state.attach(module, (SGD if fast else mx.optimizer.SGD)(**sgd))
    labels = mx.nd.array(np.arange(batch) % classes)
    return module, mx.io.DataBatch([mx.nd.array(images(batch))], [labels])


def step_of(module, batch):
    """A function that takes a training step and awaits its end."""

    def step():
        module.forward_backward(batch)
        module.update()
        mx.nd.waitall()

    return step
