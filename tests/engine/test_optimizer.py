import numpy as np
import pytest

from insightface_mx.base.compat import mx
from insightface_mx.engine.optimizer import SGD

LENGTHS = (1, 7, 300)


def updated(optimizer, steps):
    """Weights and momenta after `steps` updates of three arrays with random gradients."""
    updater = mx.optimizer.get_updater(optimizer)
    random = np.random.RandomState(0)
    weights = [mx.nd.array(random.normal(size=length)) for length in LENGTHS]
    for _ in range(steps):
        gradients = [mx.nd.array(random.normal(size=length)) for length in LENGTHS]
        updater(list(range(len(LENGTHS))), gradients, weights)
    return [weight.asnumpy() for weight in weights], updater.states


def by_formula(steps, rates, momentum, decay, rescale, clip):
    random = np.random.RandomState(0)
    weights = [random.normal(size=length) for length in LENGTHS]
    momenta = [np.zeros(length) for length in LENGTHS]
    for step in range(steps):
        for i, length in enumerate(LENGTHS):
            gradient = rescale * random.normal(size=length)
            if clip:
                gradient = gradient.clip(-clip, clip)
            momenta[i] = momentum * momenta[i] - rates[step] * (gradient + decay[i] * weights[i])
            weights[i] = weights[i] + momenta[i]
    return weights, momenta


@pytest.mark.parametrize("momentum", [0.9, 0.0])
@pytest.mark.parametrize("clip", [None, 0.2])
def test_updates_follow_the_formula(momentum, clip):
    scheduler = mx.lr_scheduler.FactorScheduler(step=2, factor=0.5, base_lr=0.1)
    options = {"momentum": momentum, "wd": 0.01, "rescale_grad": 0.5, "clip_gradient": clip}
    optimizer = SGD(learning_rate=0.1, lr_scheduler=scheduler, param_idx2name={0: "a", 1: "b", 2: "c"}, **options)
    optimizer.wd_mult = {"b": 0.0}
    weights, states = updated(optimizer, 4)
    expected, momenta = by_formula(4, (0.1, 0.1, 0.05, 0.05), momentum, (0.01, 0, 0.01), 0.5, clip)
    for found, formula in zip(weights, expected):
        np.testing.assert_allclose(found, formula, rtol=1e-5, atol=1e-6)
    for i, formula in enumerate(momenta):
        if momentum:
            np.testing.assert_allclose(states[i].asnumpy(), formula, rtol=1e-5, atol=1e-6)
        else:
            assert states[i] is None
    assert optimizer.num_update == 4


def test_updates_are_those_of_mxnet():
    options = {"learning_rate": 0.1, "momentum": 0.9, "wd": 5e-4, "rescale_grad": 0.25}
    found, expected = (updated(kind(**options), 3)[0] for kind in (SGD, mx.optimizer.SGD))
    for one, other in zip(found, expected):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)
