"""The losses against float64 loops over samples and classes, on one and two contexts."""

import dataclasses
import re

import numpy as np
import pytest
from numeric import slope

from insightface_mx import losses
from insightface_mx.base.compat import mx
from insightface_mx.options import LossOptions

CASES = {
    "softmax": {"loss_type": 0},
    "softmax without bias": {"loss_type": 0, "fc7_no_bias": True},
    "SphereFace": {"loss_type": 1},
    "SphereFace, m 3": {"loss_type": 1, "margin": 3, "beta_min": 0.0},
    "SphereFace, m 1": {"loss_type": 1, "margin": 1},
    "CosFace": {"loss_type": 2, "margin_m": 0.35},
    "ArcFace": {"loss_type": 4},
    "ArcFace, easy": {"loss_type": 4, "easy_margin": 1},
    "combined (1, 0.3, 0.2)": {"loss_type": 5, "margin_m": 0.3, "margin_b": 0.2},
    "combined (0.9, 0.4, 0.15)": {"loss_type": 5, "margin_a": 0.9, "margin_m": 0.4, "margin_b": 0.15},
    "combined, b alone": {"loss_type": 5, "margin_m": 0.0, "margin_b": 0.3},
    "intra": {"loss_type": 6, "margin_b": 2.0},
    "inter": {"loss_type": 7, "margin_b": 2.0},
}
SAMPLES, CLASSES, LENGTH = 12, 5, 6
SYMBOLS = {"trained": losses.training_symbol, "saved": losses.checkpoint_symbol}
every_case = pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
every_symbol = pytest.mark.parametrize("make", SYMBOLS.values(), ids=SYMBOLS)


def options(**changes):
    return LossOptions(**{"ce_loss": True, **changes})


# The formulas, in float64.


def psi(t, m):
    k = min(int(t * m / np.pi), m - 1)
    return (-1) ** k * np.cos(m * t) - 2 * k


def new_cosine(t, o):
    m = o.margin_m
    if o.loss_type == 1:
        return (o.beta_min * np.cos(t) + psi(t, o.margin)) / (1 + o.beta_min)
    if o.loss_type == 2:
        return np.cos(t) - m
    if o.loss_type == 4 and o.easy_margin:
        return np.cos(t + m) if np.cos(t) > 0 else np.cos(t)
    if o.loss_type == 4 and np.cos(t) <= np.cos(np.pi - m):
        return np.cos(t) - m * np.sin(np.pi - m)
    if o.loss_type == 5:
        return np.cos(o.margin_a * t + m) - o.margin_b
    return np.cos(t + m)


def head(x, w, labels, o):
    """Probabilities and the whole loss, extra loss included."""
    logits, angles = np.empty((len(x), len(w))), []
    for i, (sample, label) in enumerate(zip(x, labels)):
        for j, row in enumerate(w):
            cosine = np.clip(sample @ row / np.linalg.norm(sample) / np.linalg.norm(row), -1, 1)
            scale = np.linalg.norm(sample) if o.loss_type == 1 else o.margin_s
            logits[i, j] = scale * cosine
            if o.loss_type == 0:
                logits[i, j] = sample @ row
            elif j == label:
                angles.append(np.arccos(cosine))
                logits[i, j] = scale * new_cosine(angles[-1], o)
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    loss = -np.mean([np.log(p[i, label]) for i, label in enumerate(labels)])
    if o.loss_type == 6:
        loss += o.margin_b * np.mean(angles) / np.pi
    if o.loss_type == 7:
        rows = [row / np.linalg.norm(row) for row in w]
        loss += o.margin_b * np.mean([rows[label] @ row for label in labels for row in rows])
    return p, loss


# The symbols, run.


def sample_at(angles):
    """Embeddings of length 3 at given angles to their class weights, the weights and the labels."""
    rng = np.random.RandomState(0)
    w = rng.randn(CLASSES, LENGTH) * 0.1
    labels = np.arange(len(angles)) % CLASSES
    own = w[labels] / np.linalg.norm(w[labels], axis=1, keepdims=True)
    aside = rng.randn(*own.shape)
    aside -= own * (aside * own).sum(axis=1, keepdims=True)
    aside /= np.linalg.norm(aside, axis=1, keepdims=True)
    angles = np.asarray(angles)[:, None]
    return 3 * (np.cos(angles) * own + np.sin(angles) * aside), w, labels


def run(symbol, beta=5.0, **values):
    """Outputs, and gradients by name, of one forward and backward pass."""
    not_trained = ("softmax_label", losses.BETA)
    names = symbol.list_arguments()
    executor = symbol.simple_bind(
        mx.cpu(),
        grad_req={name: "null" if name in not_trained else "write" for name in names},
        **{name: np.shape(value) for name, value in values.items()},
    )
    for name in names:
        executor.arg_dict[name][:] = values.get(name, beta if name == losses.BETA else 0)
    outputs = [output.asnumpy() for output in executor.forward(is_train=True)]
    executor.backward()
    return outputs, {name: array.asnumpy() for name, array in executor.grad_dict.items() if array is not None}


def run_head(make, o, x, w, labels):
    symbol = make(mx.sym.Variable("x"), CLASSES, o, LENGTH)
    return run(symbol, o.beta_min, x=x, fc7_weight=w, softmax_label=labels)


def all_finite(outputs, gradients):
    assert outputs
    assert gradients
    return all(np.isfinite(array).all() for array in [*outputs, *gradients.values()])


@every_case
def test_values_and_gradients_are_the_formula(changes):
    o = options(margin_s=8.0, **changes)
    x, w, labels = sample_at([0.05, 0.3, 0.7, 1.0, 1.3, 1.6, 1.9, 2.2, 2.6, 2.66, 2.9, 3.1])
    p, loss = head(x, w, labels, o)
    slopes = {
        "x": slope(lambda x: head(x, w, labels, o)[1], x),
        "fc7_weight": slope(lambda w: head(x, w, labels, o)[1], w),
        "fc7_bias": (p - np.eye(CLASSES)[labels]).mean(axis=0),
    }
    for make in SYMBOLS.values():
        outputs, gradients = run_head(make, o, x, w, labels)
        np.testing.assert_allclose(outputs[1], p, rtol=1e-4, atol=1e-6)
        extra = o.margin_b * outputs[2] if len(outputs) == 4 else 0
        np.testing.assert_allclose(outputs[-1] + extra, [loss], rtol=1e-5)
        assert ("fc7_bias" in gradients) == (o.loss_type == 0 and not o.fc7_no_bias)
        for name, gradient in gradients.items():
            np.testing.assert_allclose(gradient, slopes[name], rtol=2e-3, atol=2e-5 * abs(slopes[name]).max())


@every_symbol
@every_case
@pytest.mark.parametrize("t", [0.0, np.pi], ids=["aligned", "opposite"])
def test_values_are_the_formula_where_its_slope_is_not_defined(make, changes, t):
    o = options(margin_s=8.0, **changes)
    x, w, labels = sample_at([t] * SAMPLES)
    outputs, gradients = run_head(make, o, x, w, labels)
    np.testing.assert_allclose(outputs[1], head(x, w, labels, o)[0], atol=1e-3)  # float32 angles: 3e-4 at 0
    assert all_finite(outputs, gradients)


@every_symbol
def test_arcface_takes_one_of_its_two_values_at_its_threshold(make):
    o = options(margin_s=8.0)
    outputs, gradients = run_head(make, o, *sample_at([np.pi - o.margin_m] * SAMPLES))
    below, above = (head(*sample_at([np.pi - o.margin_m + d] * SAMPLES), o)[0] for d in (-1e-4, 1e-4))
    nearest = np.minimum(abs(outputs[1] - below).max(axis=1), abs(outputs[1] - above).max(axis=1))
    assert nearest.max() < 1e-3
    assert all_finite(outputs, gradients)


@pytest.mark.parametrize("loss_type", [number for number, loss in losses.LOSSES.items() if loss.margin])
def test_margins_are_finite_where_rounding_leaves_the_cosines_range(loss_type):
    o = options(loss_type=loss_type, margin_b=0.1)
    cosines = np.array([1.0000001, 1.000001, 1, 0.99999994, -0.99999994, -1, -1.0000001, -1.000001], np.float32)
    for a in (1.0, 0.9):
        margin = losses.LOSSES[loss_type].margin(mx.sym.Variable("c"), dataclasses.replace(o, margin_a=a))
        (value,), gradients = run(mx.sym.MakeLoss(margin), c=cosines)
        expected = [new_cosine(t, dataclasses.replace(o, margin_a=a)) for t in np.arccos(np.clip(cosines, -1, 1))]
        np.testing.assert_allclose(value, expected, atol=1e-3)
        assert np.isfinite(gradients["c"]).all()


@every_case
@pytest.mark.parametrize("size", [0.0, 1e-38, 1e6, 1e20, 3e38], ids="{:g}".format)
def test_embeddings_and_weights_of_any_size_give_finite_numbers(changes, size):
    make, o = losses.training_symbol, options(**changes)
    x, w, labels = sample_at(np.linspace(0, np.pi, SAMPLES))
    huge = np.clip(x * size, -3e38, 3e38)
    huge[0] = 0
    assert all_finite(*run_head(make, o, huge, w / CLASSES, labels))
    if o.loss_type != 0 or size < 1e10:
        huge = np.clip(w * size, -3e38, 3e38)
        huge[0] = 0
        assert all_finite(*run_head(make, o, x, huge, labels))


# In a Module, as it is trained.


def trained(make, o, contexts, betas=None):
    """Parameters and last outputs after one SGD step for each beta."""
    body = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=LENGTH, name="body")
    symbol = make(body, CLASSES, o, LENGTH)
    names = set(symbol.list_arguments())
    states = sorted(names & set(losses.state_names(o)))
    module = mx.mod.Module(symbol, context=[mx.cpu(i) for i in range(contexts)], state_names=states)
    module.bind([("data", (SAMPLES, 7))], [("softmax_label", (SAMPLES,))])
    rng = np.random.RandomState(3)
    shapes = dict(zip(symbol.list_arguments(), symbol.infer_shape(data=(SAMPLES, 7))[0]))
    parameters = sorted(names - {"data", "softmax_label", *states})
    module.init_params(arg_params={name: mx.nd.array(rng.randn(*shapes[name])) for name in parameters})
    sgd = {"learning_rate": 0.1, "momentum": 0.9, "wd": 5e-4, "rescale_grad": 1 / contexts}
    module.init_optimizer(kvstore="device", optimizer="sgd", optimizer_params=sgd)
    batch = mx.io.DataBatch([mx.nd.array(rng.randn(SAMPLES, 7))], [mx.nd.array(rng.randint(0, CLASSES, SAMPLES))])
    for beta in betas or [o.beta_min] * 2:
        if states:
            losses.set_beta(module, beta)
        module.forward_backward(batch)
        module.update()
    outputs = [output.asnumpy() for output in module.get_outputs()]
    params = {name: array.asnumpy() for name, array in module.get_params()[0].items()}
    assert sorted(params) == parameters
    return params, outputs


@every_case
def test_two_contexts_and_the_saved_symbol_train_the_same(changes):
    params, outputs = trained(losses.training_symbol, options(**changes), contexts=1)
    for make, contexts in ((losses.training_symbol, 2), (losses.checkpoint_symbol, 1), (losses.checkpoint_symbol, 2)):
        other_params, other_outputs = trained(make, options(**changes), contexts)
        for name, array in params.items():
            np.testing.assert_allclose(other_params[name], array, rtol=1e-5, atol=1e-6, err_msg=name)
        np.testing.assert_allclose(other_outputs[1], outputs[1], rtol=1e-4, atol=1e-6)
        for value, other in zip(outputs[2:], other_outputs[2:]):
            np.testing.assert_allclose(other.mean(), value[0], rtol=1e-5)


def test_beta_reaches_every_context_batch_by_batch_and_is_not_trained():
    o = options(loss_type=1)
    falling = [1000.0, 50.0, 5.0, 0.5]
    one, _ = trained(losses.training_symbol, o, 1, falling)
    two, _ = trained(losses.training_symbol, o, 2, falling)
    again, _ = trained(losses.training_symbol, o, 2, falling)
    rising, _ = trained(losses.training_symbol, o, 2, falling[::-1])
    assert losses.BETA not in one
    for name, array in one.items():
        np.testing.assert_allclose(two[name], array, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(two[name], again[name])
        assert abs(rising[name] - array).max() > 1e-3


# The rest of the interface.


@pytest.mark.parametrize(
    ("step", "changes", "num_classes", "beta"),
    [
        (0, {}, 100, 1000.0),
        (1, {}, 100, 1000 / 1.12),
        (100, {}, 20000, 1000 / 13),
        (100, {"power": 2.0}, 100, 1000 / 169),
        (10**6, {}, 100, 5.0),
        (9, {"beta_freeze": 10, "beta": 1.0}, 100, 1.0),
        (12, {"beta_freeze": 10}, 100, 1000 / 1.24),
        (4999, {}, 20001, 1000.0),
        (5010, {}, 20001, 1000 / 1.6),
    ],
)
def test_sphereface_beta(step, changes, num_classes, beta):
    assert losses.sphereface_beta(step, options(**changes), num_classes) == pytest.approx(beta)


@every_symbol
@every_case
def test_names_order_and_attributes(make, changes):
    o = options(fc7_lr_mult=2.5, fc7_wd_mult=0.5, **changes)
    symbol = make(mx.sym.Variable("x"), CLASSES, o, LENGTH)
    extra = {6: ["intra_loss_output"], 7: ["inter_loss_output"]}.get(changes["loss_type"], [])
    assert symbol.list_outputs()[1:] == ["softmax_output", *extra, "ce_loss_output"]
    bias = ["fc7_bias"] * (changes["loss_type"] == 0 and not changes.get("fc7_no_bias"))
    state = [losses.BETA] * (changes["loss_type"] == 1 and make is losses.training_symbol)
    assert sorted(symbol.list_arguments()) == sorted(["x", "fc7_weight", "softmax_label", *bias, *state])
    internals = symbol.get_internals().list_outputs()
    assert "fc7_output" in internals
    assert ("fc1n_output" in internals) == (changes["loss_type"] > 1)
    attributes = symbol.attr_dict()
    weight = {
        "__lr_mult__": "2.5",
        "__wd_mult__": "0.5",
        "__shape__": str((CLASSES, LENGTH)),
    }
    assert weight.items() <= attributes["fc7_weight"].items()
    assert not bias or {"__lr_mult__": "2.0", "__wd_mult__": "0.0"}.items() <= attributes["fc7_bias"].items()


@every_case
def test_the_saved_symbol_has_no_operator_younger_than_the_checkpoints(changes):
    text = losses.checkpoint_symbol(mx.sym.Variable("x"), CLASSES, options(**changes), LENGTH).tojson()
    assert not re.search(r'"op": "(Custom|_contrib_\w+|_npi?_\w+|_np_\w+|scatter_nd)"', text)
    assert mx.sym.load_json(text).list_outputs()[1] == "softmax_output"


def test_without_ce_loss_there_are_two_outputs():
    symbol = losses.training_symbol(mx.sym.Variable("x"), CLASSES, options(ce_loss=False), LENGTH)
    assert len(symbol.list_outputs()) == 2


@every_symbol
def test_cross_entropy_is_finite_where_the_probability_is_zero(make):
    x, w, labels = sample_at([3.1] * SAMPLES)
    outputs, _ = run_head(make, options(margin_s=1000.0), x, w, labels)
    assert outputs[1][np.arange(SAMPLES), labels].max() == 0
    assert outputs[-1] == pytest.approx(87.3, abs=0.1)


@every_symbol
def test_a_label_outside_the_classes_leaves_other_samples_alone(make):
    x, w, labels = sample_at(np.linspace(0.1, 3, SAMPLES))
    expected, _ = run_head(make, options(), x, w, labels)
    for wrong in (-1, CLASSES):
        labels[1] = wrong
        outputs, _ = run_head(make, options(), x, w, labels)
        np.testing.assert_array_equal(np.delete(outputs[1], 1, axis=0), np.delete(expected[1], 1, axis=0))


def megabytes(symbol):
    executor = symbol.simple_bind(mx.cpu(), x=(64, 64), softmax_label=(64,))
    return int(re.search(r"Total (\d+) MB allocated", executor.debug_str()).group(1))


@pytest.mark.parametrize("loss_type", [2, 4, 5, 6])
def test_margins_take_no_more_memory_than_plain_softmax_of_the_cosines(loss_type):
    num_classes = 20000
    o = options(loss_type=loss_type)
    array = 64 * num_classes * 4 / 2**20
    weight = mx.sym.L2Normalization(mx.sym.Variable("fc7_weight", shape=(num_classes, 64)))
    cosines = mx.sym.FullyConnected(mx.sym.Variable("x"), weight, no_bias=True, num_hidden=num_classes)
    plain = megabytes(mx.sym.SoftmaxOutput(cosines, name="softmax"))
    assert megabytes(losses.training_symbol(mx.sym.Variable("x"), num_classes, o, 64)) <= plain + 1
    assert megabytes(losses.checkpoint_symbol(mx.sym.Variable("x"), num_classes, o, 64)) > plain + 0.9 * array


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"loss_type": 8}, ["--loss-type 8", "unknown", "0 softmax", "4 ArcFace", "7 ArcFace and inter loss"]),
        ({"loss_type": 3}, ["never", "train_softmax.py", "4 ArcFace"]),
        ({"loss_type": 12}, ["train_triplet.py"]),
        ({"loss_type": 13}, ["train_triplet.py"]),
        ({"margin_m": -0.1}, ["--margin-m -0.1", "--loss-type 4", "less than pi / 2"]),
        ({"margin_m": np.pi / 2}, ["--margin-m", "less than pi / 2"]),
        ({"margin_s": 0.0}, ["--margin-s 0.0", "more than 0"]),
        ({"loss_type": 2, "margin_m": 0.0}, ["--margin-m 0.0", "--loss-type 2", "more than 0"]),
        ({"loss_type": 5, "margin_b": -0.2}, ["--margin-b -0.2", "0 or more"]),
        ({"loss_type": 5, "margin_m": float("nan")}, ["--margin-m nan", "0 or more"]),
        ({"loss_type": 1, "margin": 0}, ["--margin 0", "1 or more"]),
        ({"loss_type": 1, "beta_min": -1.0}, ["--beta-min -1.0", "0 or more"]),
    ],
)
def test_options_that_cannot_be_are_refused_by_name(changes, words):
    with pytest.raises(ValueError) as caught:
        losses.training_symbol(mx.sym.Variable("x"), CLASSES, options(**changes), LENGTH)
    for word in words:
        assert word in str(caught.value)
