"""Networks as bound Modules for the benchmarks, with and without the rewritten graph for CPUs."""

from __future__ import annotations

import logging
from typing import Callable

import numpy as np

from insightface_mx import losses, symbols
from insightface_mx.base.compat import Module, Symbol, mx
from insightface_mx.engine import cpu_rewrite, denormals, module_state
from insightface_mx.engine.optimizer import SGD
from insightface_mx.options import LossOptions

SIZE = (112, 112)  # pixels
EMB_SIZE = 512


def prepare() -> None:
    """Do what the commands do first: flush denormal numbers, and show the log."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    denormals.flush_in_threads([mx.cpu()])


def images(batch: int) -> np.ndarray:
    """Return random images, batch x 3 x height x width, of 0..255."""
    return np.random.RandomState(0).randint(0, 256, (batch, 3, *SIZE)).astype(np.float32)


def plain_inference(network: str, symbol: Symbol, batch: int) -> Module:
    """Return a Module of a network's original graph, for inference, with random weights."""
    module = mx.mod.Module(symbol, label_names=None)
    module.bind([("data", (batch, 3, *SIZE))], for_training=False)
    module.init_params(symbols.get_initializer(network))
    return module


def training_module(network: str, batch: int, classes: int, fast: bool) -> tuple[Module, mx.io.DataBatch]:
    """Return a Module with ArcFace and SGD, and a batch of random images to train on.

    Args:
        network: Letter and depth.
        batch: Images.
        classes: Number of classes.
        fast: Use the graph and the SGD for CPUs, as training does.
    """
    symbol = losses.training_symbol(symbols.get_symbol(network, EMB_SIZE), classes, LossOptions(), EMB_SIZE)
    inputs = {"data": (batch, 3, *SIZE), "softmax_label": (batch,)}
    options = {"learning_rate": 1e-4, "momentum": 0.9, "wd": 5e-4, "rescale_grad": 1.0}
    if fast:
        symbol, sgd = cpu_rewrite.rewrite(symbol, None, inputs), SGD(**options)
    else:
        sgd = mx.optimizer.SGD(**options)
    module = mx.mod.Module(symbol, context=mx.cpu())
    module.bind([("data", inputs["data"])], [("softmax_label", inputs["softmax_label"])])
    mx.random.seed(1)
    module.init_params(symbols.get_initializer(network))
    module_state.attach_optimizer(module, sgd)
    labels = mx.nd.array(np.arange(batch) % classes)
    return module, mx.io.DataBatch([mx.nd.array(images(batch))], [labels])


def step_of(module: Module, batch: mx.io.DataBatch) -> Callable[[], None]:
    """Return a function that makes a training step and waits for its end."""

    def step() -> None:
        module.forward_backward(batch)
        module.update()
        mx.nd.waitall()

    return step
