"""A small network to train in tests, an accuracy of it, and observers that record or spoil batches."""

from __future__ import annotations

from typing import Callable

import numpy as np

from insightface_mx.base.compat import mx
from insightface_mx.engine.module_state import executors
from insightface_mx.training.batches import Observer


def small_network(options, image_size):
    """A convolution, batch norm and dropout: everything whose state a resumed run must have."""
    body = mx.sym.Convolution(mx.sym.Variable("data") / 255, kernel=(3, 3), stride=(4, 4), num_filter=4, name="conv0")
    body = mx.sym.Activation(mx.sym.BatchNorm(body, name="bn0"), act_type="relu")
    body = mx.sym.FullyConnected(mx.sym.Dropout(body, p=0.4), num_hidden=options.emb_size, name="pre_fc1")
    return mx.sym.BatchNorm(body, name="fc1")


def score(step, arg_params, aux_params):
    """In place of a test: an accuracy that follows from the parameters, and goes up and down."""
    return {"toy": float(arg_params["conv0_weight"].asnumpy().sum()) * 100 % 1}


def scores(*values):
    """In place of a test: one accuracy after the other."""
    left = iter(values)
    return lambda step, arg_params, aux_params: {"toy": next(left)}


class Recorder(Observer):
    """Records the step and the record ids of every batch."""

    def __init__(self):
        self.steps, self.records = [], []

    def before_batch(self, step, batch, model):
        self.steps.append(step)
        self.records.append(batch.index.tolist())


class SpoilPixels(Observer):
    """Puts a value that is not finite in some pixels of batches."""

    def __init__(self, is_bad: Callable[[int], bool], value: float = np.nan):
        self.is_bad, self.value = is_bad, value

    def before_batch(self, step, batch, model):
        if self.is_bad(step):
            data = batch.data[0].asnumpy()
            data[1, 0, 3:9, 3:9] = self.value
            batch.data[0] = mx.nd.array(data)


class SpoilOutputOnce(Observer):
    """Puts NaN in an output when a step is reached for the first time; the batch itself is good."""

    def __init__(self, step: int):
        self.step = step

    def after_backward(self, step, batch, model):
        if step == self.step:
            self.step = None
            executors(model)[0].outputs[0][0] = np.nan
