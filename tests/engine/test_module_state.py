"""What training changes in a Module is read completely, and restored bit for bit."""

import numpy as np
import pytest

from insightface_mx.base.compat import mx
from insightface_mx.engine import module_state

BATCH, CLASSES = 6, 4


def module_on(devices):
    """A bound Module of a convolution, batch norm and dense layer on some CPU contexts, with seeded parameters."""
    body = mx.sym.Convolution(mx.sym.Variable("data"), num_filter=8, kernel=(3, 3), no_bias=True, name="conv")
    body = mx.sym.BatchNorm(body, fix_gamma=False, momentum=0.5, name="bn")
    symbol = mx.sym.SoftmaxOutput(mx.sym.FullyConnected(body, num_hidden=CLASSES, name="fc"), name="softmax")
    module = mx.mod.Module(symbol, context=[mx.cpu(i) for i in range(devices)])
    module.bind([("data", (BATCH, 3, 5, 5))], [("softmax_label", (BATCH,))])
    mx.random.seed(1)
    module.init_params(mx.init.Xavier())
    return module


def sgd():
    return mx.optimizer.SGD(learning_rate=0.1, momentum=0.9, rescale_grad=1 / BATCH)


def train(module, seeds):
    for seed in seeds:
        random = np.random.RandomState(seed)
        images, labels = random.normal(size=(BATCH, 3, 5, 5)), random.randint(0, CLASSES, BATCH)
        module.forward_backward(mx.io.DataBatch([mx.nd.array(images)], [mx.nd.array(labels)]))
        module.update()


def as_numpy(state):
    return {name: array.asnumpy() for name, array in state.items()}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


@pytest.fixture(params=[1, 2])
def trained(request):
    """A Module on one or two devices after two steps, and its state then as numpy arrays."""
    module = module_on(request.param)
    module_state.attach_optimizer(module, sgd())
    train(module, (1, 2))
    return module, as_numpy(module_state.read(module))


def test_the_state_is_complete(trained):
    module, state = trained
    parameters = ["conv_weight", "bn_gamma", "bn_beta", "fc_weight", "fc_bias"]
    devices = len(module_state.executors(module))
    averages = [f"aux:{device}:bn_moving_{what}" for device in range(devices) for what in ("mean", "var")]
    kinds = ("arg", "momentum")
    assert sorted(state) == sorted([f"{kind}:{name}" for kind in kinds for name in parameters] + averages)
    means = [state[f"aux:{device}:bn_moving_mean"] for device in range(devices)]
    assert all(mean.any() for mean in means)
    assert len({mean.tobytes() for mean in means}) == devices


def test_training_goes_on_with_the_same_bits(trained):
    module, state = trained
    other = module_on(len(module_state.executors(module)))
    train_on = {name: mx.nd.array(values) for name, values in state.items()}
    module_state.restore(other, sgd(), train_on)
    assert_same(as_numpy(module_state.read(other)), state)
    for one in (module, other):
        train(one, (3, 4))
    assert_same(as_numpy(module_state.read(other)), as_numpy(module_state.read(module)))


def test_other_devices_get_the_mean_moving_averages():
    module = module_on(2)
    module_state.attach_optimizer(module, sgd())
    train(module, (1, 2))
    state = module_state.read(module)
    other = module_on(3)
    module_state.restore(other, sgd(), state)
    expected = (state["aux:0:bn_moving_var"] + state["aux:1:bn_moving_var"]).asnumpy() / 2
    averages = [executor.aux_dict["bn_moving_var"].asnumpy() for executor in module_state.executors(other)]
    assert len(averages) == 3
    for average in averages:
        np.testing.assert_array_equal(average, expected)
    np.testing.assert_array_equal(module_state.current_params(other)[1]["bn_moving_var"].asnumpy(), expected)
    np.testing.assert_array_equal(module_state.params_of(state)[1]["bn_moving_var"].asnumpy(), expected)


def test_moving_averages_are_those_of_every_device(trained):
    module, state = trained
    found = [array.asnumpy() for array in module_state.moving_averages(module)]
    expected = [values for name, values in state.items() if name.startswith("aux:")]
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected):
        np.testing.assert_array_equal(one, other)


def test_an_optimizer_counts_on_from_the_number_that_is_set():
    optimizer = sgd()
    optimizer.lr_scheduler = mx.lr_scheduler.FactorScheduler(step=10, factor=0.5, base_lr=0.1)
    module = module_on(1)
    module_state.attach_optimizer(module, optimizer)
    train(module, (1, 2))
    assert optimizer.num_update == 2
    module_state.set_update_count(optimizer, 20)
    assert optimizer.num_update == 20
    train(module, (3,))
    assert optimizer.num_update == 21
    assert optimizer.learning_rate == pytest.approx(0.025)
