"""The rewritten graph computes the formula of PReLU, gradients included, and has the original graph's names."""

import logging

import numpy as np
import pytest
from prelu_graphs import SLOPES, convolution, formula, network_with_a_global_convolution, operators, prelu

from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError
from insightface_mx.engine import prelu_library
from insightface_mx.engine.cpu_rewrite import OnceLog, rewrite
from insightface_mx.engine.prelu_rewrite import PRELU_KINDS
from insightface_mx.symbols import fmobilefacenet


@pytest.fixture(params=list(PRELU_KINDS))
def kind(request):
    if request.param == "compiled" and prelu_library.load_error():
        pytest.skip(prelu_library.load_error())
    return request.param


def values_for(symbol, shapes):
    """Seeded values of every argument, different for each name; slopes are SLOPES repeated."""
    arguments, _, _ = symbol.infer_shape(**shapes)
    values = {}
    for name, shape in zip(symbol.list_arguments(), arguments):
        random = np.random.RandomState(sum(name.encode()))
        slopes = name.startswith("p") and name.endswith("gamma")
        values[name] = np.resize(SLOPES, shape) if slopes else random.normal(size=shape)
    return values


def run(symbol, values, grad_req="write", before=0.0):
    """Outputs and gradients (which hold `before` when the step starts) of one training step."""
    arguments = {name: mx.nd.array(values[name]) for name in symbol.list_arguments()}
    gradients = {name: mx.nd.full(array.shape, before) for name, array in arguments.items()}
    _, _, auxiliary = symbol.infer_shape(**{name: array.shape for name, array in arguments.items()})
    states = {name: mx.nd.ones(shape) for name, shape in zip(symbol.list_auxiliary_states(), auxiliary)}
    executor = symbol.bind(mx.cpu(), arguments, gradients, grad_req, states)
    outputs = executor.forward(is_train=True)
    executor.backward([mx.nd.array(np.random.RandomState(1).normal(size=output.shape)) for output in outputs])
    return [output.asnumpy() for output in outputs], {name: array.asnumpy() for name, array in gradients.items()}


def assert_close(found, expected, tolerance, what=""):
    error = np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-30)
    assert error <= tolerance, (what, error)


def assert_same_step(build, shape, dims, kind, **options):
    """The rewritten graph of build(prelu, data) steps as the formula does: outputs to 1e-6, gradients to 1e-5."""
    original = build(prelu, mx.sym.Variable("data"))
    values = values_for(original, {"data": shape})
    step = run(rewrite(original, shapes={"data": shape}, kind=kind), values, **options)
    assert_same_results(step, run(build(formula(dims), mx.sym.Variable("data")), values, **options))


def assert_same_results(step, expected_step, tolerance=1e-6):
    (outputs, gradients), (expected_outputs, expected_gradients) = step, expected_step
    for found, expected in zip(outputs, expected_outputs):
        assert_close(found, expected, tolerance)
    for name, expected in expected_gradients.items():
        assert_close(gradients[name], expected, 1e-5, name)


@pytest.mark.parametrize("shape", [(4, 7), (1, 5), (2, 6, 5, 5), (1, 16, 4, 4), (2, 8, 7), (2, 3, 2, 3, 4)])
def test_alone(kind, shape):
    assert_same_step(lambda act, data: act(data, "p"), shape, len(shape), kind)


# 16 channels are a oneDNN block, 6 are not
@pytest.mark.parametrize("channels", [6, 16])
@pytest.mark.parametrize("batch", [1, 2])
def test_between_convolutions_and_batch_norms(kind, channels, batch):
    def build(act, data):
        body = act(convolution(data, "c0", channels), "p0")
        body = mx.sym.BatchNorm(body, fix_gamma=False, name="bn0")
        body = act(mx.sym.BatchNorm(convolution(body, "c1", channels), fix_gamma=False, name="bn1"), "p1")
        body = act(convolution(body, "c2", channels, num_group=channels), "p2")
        return act(convolution(body, "c3", channels) + body, "p3")

    assert_same_step(build, (batch, 3, 9, 9), 4, kind)


def test_after_a_fully_connected_layer(kind):
    def build(act, data):
        body = act(mx.sym.FullyConnected(data, num_hidden=9, name="fc0"), "p0")
        return mx.sym.FullyConnected(body, num_hidden=4, name="fc1")

    assert_same_step(build, (3, 2, 4, 4), 2, kind)


def test_shared_slope(kind):
    def build(act, data):
        slope = mx.sym.Variable("p_gamma")
        return act(convolution(act(convolution(data, "c0", 8), "p0", slope), "c1", 8), "p1", slope)

    # the variable is not called p0_gamma or p1_gamma: its shape must be found by its own name
    assert_same_step(build, (2, 3, 6, 6), 4, kind)


def test_one_slope_for_all_channels(kind):
    def build(act, data):
        return act(convolution(data, "c", 6), "p", mx.sym.Variable("p_gamma", shape=(1,)))

    assert_same_step(build, (2, 3, 5, 5), 4, kind)


# from eight uses on, MXNet has the operators themselves add up the gradient
def test_input_of_many(kind):
    def build(act, data):
        body = convolution(data, "c", 8)
        return mx.sym.Concat(*(act(body, f"p{i}") for i in range(9)))

    assert_same_step(build, (2, 3, 5, 5), 4, kind)


@pytest.mark.parametrize(
    "grad_req",
    ["add", "null", {"data": "null", "p_gamma": "write"}, {"data": "add", "p_gamma": "null"}, {"data": "write"}],
)
def test_gradient_requests(kind, grad_req):
    if isinstance(grad_req, dict):
        grad_req = {"data": "null", "p_gamma": "null", **grad_req}
    assert_same_step(lambda act, data: act(data, "p"), (2, 6, 5, 5), 4, kind, grad_req=grad_req, before=3.0)


def test_gradient_is_the_same_bits_each_time(kind):
    original = prelu(convolution(mx.sym.Variable("data"), "c", 16), "p")
    shapes = {"data": (4, 3, 24, 24)}
    values = values_for(original, shapes)
    symbol = rewrite(original, shapes=shapes, kind=kind)
    (_, first), (_, second) = run(symbol, values), run(symbol, values)
    assert len(first) == 3
    assert all(np.array_equal(first[name], second[name]) for name in first)


def trained(symbol, contexts, shapes):
    """Parameters after three steps of Module, which starts from seeded ones."""
    module = mx.mod.Module(symbol, context=contexts)
    module.bind([("data", shapes["data"])], [("softmax_label", shapes["softmax_label"])])
    values = values_for(symbol, shapes)
    module.init_params(
        arg_params={name: mx.nd.array(value * 0.3) for name, value in values.items() if name not in shapes}
    )
    module.init_optimizer(kvstore="device", optimizer_params={"learning_rate": 0.1, "momentum": 0.9})
    for seed in range(3):
        random = np.random.RandomState(seed)
        data = [mx.nd.array(random.normal(size=shapes["data"]))]
        module.forward_backward(mx.io.DataBatch(data, [mx.nd.array(random.randint(0, 4, 6))]))
        module.update()
    mx.nd.waitall()
    return {name: array.asnumpy() for name, array in module.get_params()[0].items()}


def test_training_on_two_contexts(kind):
    def build(act):
        body = act(convolution(mx.sym.Variable("data"), "c", 8), "p", mx.sym.Variable("p_gamma", shape=(8,)))
        return mx.sym.SoftmaxOutput(mx.sym.FullyConnected(body, num_hidden=4, name="fc"), name="softmax")

    shapes = {"data": (6, 3, 5, 5), "softmax_label": (6,)}
    contexts = [mx.cpu(0), mx.cpu(1)]
    found = trained(rewrite(build(prelu), contexts, shapes, kind), contexts, shapes)
    for name, expected in trained(build(formula(4)), contexts, shapes).items():
        assert_close(found[name], expected, 1e-5, name)


def described(symbol, shapes):
    arguments, outputs, auxiliary = symbol.infer_shape(**shapes)
    return {
        "arguments": list(zip(symbol.list_arguments(), arguments)),
        "auxiliary states": list(zip(symbol.list_auxiliary_states(), auxiliary)),
        "outputs": list(zip(symbol.list_outputs(), outputs)),
    }


def test_names_shapes_and_attributes_stay(kind):
    original = fmobilefacenet.get_symbol(128, version_output="GDC")
    with mx.AttrScope(ctx_group="embedding", lr_mult="3"):
        original = mx.sym.Group([prelu(original, "last"), original.get_internals()["conv_1_relu_output"]])
    shapes = {"data": (2, 3, 112, 112)}
    symbol = rewrite(original, shapes=shapes, kind=kind)
    assert described(symbol, shapes) == described(original, shapes)
    inner = symbol.get_internals().list_outputs()
    assert [name for name in original.get_internals().list_outputs() if name not in inner] == []
    attributes, expected = symbol.attr_dict(), original.attr_dict()
    for name in original.list_arguments():
        found = attributes.get(name, {})
        found.pop("__shape__", None)
        assert found == expected.get(name, {}), name
    assert attributes["last_gamma"]["__init__"] == '["Constant", {"value": 0.25}]'
    assert attributes["last"]["__ctx_group__"] == "embedding"
    assert "LeakyReLU" not in symbol.tojson()


def test_slopes_start_at_a_quarter(kind):
    shapes = {"data": (2, 3, 6, 6)}
    symbol = rewrite(prelu(convolution(mx.sym.Variable("data"), "c", 4), "p"), shapes=shapes, kind=kind)
    module = mx.mod.Module(symbol, label_names=None)
    module.bind(list(shapes.items()))
    module.init_params(mx.init.Xavier())
    assert module.get_params()[0]["p_gamma"].asnumpy().tolist() == [0.25] * 4


def embeddings(symbol):
    """Embeddings of batches of several sizes with one set of parameters, and then with others."""
    shape = (2, 3, 7, 7)
    module = mx.mod.Module(symbol, label_names=None)
    module.bind([("data", shape)], for_training=True)
    arguments, _, auxiliary = symbol.infer_shape(data=shape)
    for seed, batch in ((0, 2), (1, 2), (1, 3), (1, 1), (2, 2)):
        random = np.random.RandomState(seed)
        module.set_params(
            {
                name: mx.nd.array(random.normal(size=size) * 0.5 + name.endswith("gamma"))
                for name, size in zip(symbol.list_arguments()[1:], arguments[1:])
            },
            {
                name: mx.nd.array(random.uniform(0.5, 2, size))
                for name, size in zip(symbol.list_auxiliary_states(), auxiliary)
            },
        )
        module.forward(mx.io.DataBatch([mx.nd.array(random.normal(size=(batch, *shape[1:])))]), is_train=False)
        yield module.get_outputs()[0].asnumpy()


@pytest.mark.parametrize("groups", [1, 16])
def test_inference_as_bound_for_training(kind, groups):
    original = network_with_a_global_convolution(groups)
    found = embeddings(rewrite(original, shapes={"data": (2, 3, 7, 7)}, kind=kind))
    for embedding, expected in zip(found, embeddings(original)):
        assert_close(embedding, expected, 2e-6)


def depthwise(data, name):
    return convolution(data, name, 4, num_group=4)


@pytest.mark.parametrize(
    ("build", "compiled"),
    [
        (lambda data: prelu(convolution(data, "c", 4), "p"), 0),
        (lambda data: prelu(mx.sym.BatchNorm(convolution(data, "c", 4), name="bn"), "p"), 0),
        (lambda data: convolution(prelu(data, "p"), "c", 4), 0),
        (lambda data: prelu(depthwise(data, "c"), "p"), 1),
        (lambda data: prelu(mx.sym.BatchNorm(depthwise(data, "c"), name="bn"), "p"), 1),
        (lambda data: depthwise(prelu(data, "p"), "c"), 1),
        (lambda data: prelu(mx.sym.Flatten(data), "p"), 1),
        (lambda data: prelu(data, "p", mx.sym.sigmoid(mx.sym.Variable("a", shape=(4,)))), 1),
    ],
)
def test_the_faster_kind(build, compiled):
    if prelu_library.load_error():
        pytest.skip(prelu_library.load_error())
    shapes = {"data": (2, 4, 5, 5)}
    assert operators(rewrite(build(mx.sym.Variable("data")), shapes=shapes)).count("_insightface_prelu") == compiled


def test_half_precision_stays(kind):
    half = prelu(mx.sym.Cast(mx.sym.Variable("data"), dtype="float16"), "p0")
    original = prelu(mx.sym.Cast(half, dtype="float32"), "p1")
    assert operators(rewrite(original, shapes={"data": (2, 4, 3, 3)}, kind=kind)).count("LeakyReLU") == 1


def test_other_kinds_of_leaky_relu_stay(kind):
    original = mx.sym.LeakyReLU(mx.sym.LeakyReLU(mx.sym.Variable("data")), act_type="elu")
    assert rewrite(original, shapes={"data": (2, 4, 3, 3)}, kind=kind).tojson() == original.tojson()


def test_gpus_keep_the_symbol():
    symbol = prelu(mx.sym.Variable("data"), "p")
    assert rewrite(symbol, [mx.cpu(), mx.gpu()]) is symbol
    assert rewrite(symbol, [mx.cpu()], {"data": (2, 4)}) is not symbol


def test_without_shapes_the_layers_are_not_possible():
    symbol, lines = prelu(mx.sym.Variable("data"), "p"), []
    assert operators(rewrite(symbol, kind="layers", log=lines.append)) == operators(symbol)
    assert lines == ["CPU rewrite: 0 of 1 PReLU as layers of oneDNN"]


def test_kind_and_reason_are_logged(monkeypatch):
    symbol, lines = prelu(mx.sym.Variable("data"), "p"), []
    if not prelu_library.load_error():
        assert "_insightface_prelu" in operators(rewrite(symbol, log=lines.append))
        assert lines == ["CPU rewrite: 1 of 1 PReLU as the compiled operator"]
        lines.clear()
    monkeypatch.setattr(prelu_library, "load_error", lambda: "no g++")
    assert "Convolution" in operators(rewrite(symbol, shapes={"data": (2, 4)}, log=lines.append))
    assert lines == ["CPU rewrite: 1 of 1 PReLU as layers of oneDNN (no compiled operator: no g++)"]
    with pytest.raises(UserError, match=r"no compiled PReLU: no g\+\+; install"):
        rewrite(symbol, kind="compiled")


def test_a_line_is_logged_once(caplog):
    caplog.set_level(logging.INFO)
    log = OnceLog()
    for line in ("a", "b", "a"):
        log(line)
    assert caplog.messages == ["a", "b"]


@pytest.mark.parametrize("channels", [(8, 8), (24, 40), (33, 31), (84, 84), (12, 12, 8)])
def test_concats_that_onednn_cannot_train(channels):
    """A layer on concatenated maps is the sum of layers on each map, whose weights are slices of its weight."""
    data = mx.sym.Variable("data")
    maps = [convolution(data, f"c{i}", count) for i, count in enumerate(channels)]
    symbol = convolution(mx.sym.Concat(*maps, dim=1), "last", 16)
    weight, ends = mx.sym.Variable("last_weight"), np.cumsum(channels)
    slices = [mx.sym.slice_axis(weight, axis=1, begin=end - n, end=end) for n, end in zip(channels, ends)]
    parts = [convolution(one, f"part{i}", 16, weight=part) for i, (one, part) in enumerate(zip(maps, slices))]
    shape = {"data": (2, 16, 7, 7)}
    rewritten = rewrite(symbol, shapes=shape)
    assert "expand_dims" in operators(rewritten)
    assert rewritten.list_arguments() == symbol.list_arguments()
    values = values_for(symbol, shape)
    assert_same_results(run(rewritten, values), run(mx.sym.add_n(*parts), values), 1e-5)


@pytest.mark.parametrize("channels", [(16, 48), (24, 64), (10, 11)])
def test_concats_that_onednn_trains_stay(channels):
    maps = [convolution(mx.sym.Variable("data"), f"c{i}", count) for i, count in enumerate(channels)]
    symbol = mx.sym.Concat(*maps, dim=1)
    assert rewrite(symbol, shapes={"data": (2, 16, 7, 7)}) is symbol
