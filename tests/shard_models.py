"""Small models to train with class weights in shards or in one dense head, and the comparison of both."""

from __future__ import annotations

import numpy as np

from insightface_mx import losses
from insightface_mx.base.compat import mx
from insightface_mx.engine.module_state import attach_optimizer, executors
from insightface_mx.engine.optimizer import SGD
from insightface_mx.shards.head import ShardedHead
from insightface_mx.shards.module import ShardedModule
from insightface_mx.shards.plan import Shards
from insightface_mx.split_loss import split_loss

CLASSES, LENGTH, BATCH, STEPS = 1001, 128, 16, 4
SEED = 8  # of the sampled classes
TWO = [mx.cpu(0), mx.cpu(1)]


def network():
    """From 20 numbers to an embedding, so that a gradient reaches parameters in front of the class weights."""
    return mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=LENGTH, name="fc1")


def batches():
    """Draw batches whose labels repeat one class."""
    rng = np.random.RandomState(3)
    for _ in range(STEPS):
        labels = rng.randint(CLASSES, size=BATCH)
        labels[5] = labels[11]
        yield mx.io.DataBatch([mx.nd.array(rng.normal(size=(BATCH, 20)))], [mx.nd.array(labels)])


def dense(options, contexts, frozen=()):
    symbol = losses.training_symbol(network(), CLASSES, options, LENGTH)
    states = losses.state_names(options)
    model = mx.mod.Module(
        symbol, label_names=["softmax_label"], context=contexts, state_names=states, fixed_param_names=list(frozen)
    )
    model.bind([("data", (BATCH, 20))], [("softmax_label", (BATCH,))])
    return model


def sharded(options, contexts, count, frozen=(), sample_ratio=1.0):
    shards = Shards(split_loss(network(), CLASSES, options, LENGTH), count, sample_ratio, seed=SEED)
    model = ShardedModule(shards.loss.body, ShardedHead(shards, contexts, frozen), contexts, frozen)
    model.bind([("data", (BATCH, 20))])
    return model


def optimizer(contexts, options, **settings):
    settings = {"momentum": 0.9, **settings}
    sgd = SGD(learning_rate=0.1, wd=5e-4, rescale_grad=1 / len(contexts), **settings)
    sgd.wd_mult, sgd.lr_mult = {"fc7_weight": options.fc7_wd_mult}, {"fc7_weight": options.fc7_lr_mult}
    if options.loss_type == 0 and not options.fc7_no_bias:
        sgd.wd_mult["fc7_bias"], sgd.lr_mult["fc7_bias"] = 0.0, 2.0
    return sgd


def train(model, contexts, options, **settings):
    """Train a few steps: (losses, accuracies, gradients of the network's bias, parameters)."""
    mx.random.seed(7)
    model.init_params(mx.init.Xavier(magnitude=2))
    attach_optimizer(model, optimizer(contexts, options, **settings))
    if options.loss_type == losses.SPHEREFACE:
        losses.set_beta(model, 7.0)
    values, hits, gradients = [], [], []
    for step, batch in enumerate(batches(), 1):
        if hasattr(model, "head"):
            model.head.step = step
        model.forward_backward(batch)
        outputs, labels = model.get_outputs(), batch.label[0]
        if hasattr(model, "head"):
            values.append(outputs[2].mean().asscalar())
            hits.append(outputs[1].mean().asscalar())
        else:
            values.append(-mx.nd.log(mx.nd.pick(outputs[1], labels, axis=1)).mean().asscalar())
            hits.append((mx.nd.argmax(outputs[1], axis=1) == labels).mean().asscalar())
        gradients.append(sum(executor.grad_dict["fc1_bias"].asnumpy() for executor in executors(model)))
        model.update()
    return values, hits, gradients, {name: rows_of(array) for name, array in model.get_params()[0].items()}


def rows_of(array):
    return np.concatenate(list(array.pieces())) if hasattr(array, "pieces") else array.asnumpy()


def assert_close(got, expected, tolerance):
    assert np.abs(got - expected).max() <= tolerance * np.abs(expected).max()


def assert_equal_training(got, expected):
    np.testing.assert_allclose(got[0], expected[0], rtol=1e-6)
    assert got[1] == expected[1]
    for one, other in zip(got[2], expected[2]):
        assert_close(one, other, 2e-5)
    assert list(got[3]) == list(expected[3])
    for name in got[3]:
        assert_close(got[3][name], expected[3][name], 1e-5)
