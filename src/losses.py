"""The training heads: class weights, logits, margins and losses on top of an embedding.

All margin losses share one path: the cosines between embedding and class weights are taken, those of the labelled
classes are replaced by a margin function of themselves, and everything is scaled and goes through softmax. LOSSES names
the margin of each --loss-type. Nothing here divides by zero or leaves the domain of sqrt or arccos: values and
gradients are finite for finite input (type 0 as far as x.W itself is finite).

t is the angle between an embedding and the weights of its own class, and `cos_t` a vector of one cosine a sample.
"""

import math
from typing import Callable, Dict, NamedTuple, Optional

from insightface_mx.base.compat import mx

BETA = "fc7_beta"
NEAR_ONE = 0.99999994  # the largest float32 under 1: here arccos still has a finite slope
SMALL = 1e-10  # what L2Normalization adds to a squared length
TINY = 1.2e-38  # the smallest float32 that is not denormal


def cosine_of_sum(cos_t, m):
    """cos(t + m) = cos t cos m - sin t sin m."""
    sin_t = mx.sym.sqrt(mx.sym.maximum(1 - cos_t * cos_t, 1e-12))
    return cos_t * math.cos(m) - sin_t * math.sin(m)


def angle(cos_t):
    """t in radians; constant, and so without gradient, where rounding leaves no angle to tell."""
    return mx.sym.arccos(mx.sym.clip(cos_t, -NEAR_ONE, NEAR_ONE))


def sphereface(cos_t, options):
    """(beta cos t + psi(t)) / (1 + beta), with the variable `fc7_beta` as beta.

    psi(t) = (-1)^k cos(m t) - 2k for t in [k pi/m, (k+1) pi/m]: SphereFace, arXiv 1704.08063, equation 7, annealed.
    """
    m = options.margin
    previous, cos_mt = 1, cos_t
    for _ in range(m - 1):  # cos((n+1) t) = 2 cos t cos(n t) - cos((n-1) t)
        previous, cos_mt = cos_mt, 2 * cos_t * cos_mt - previous
    k = sum(cos_t < math.cos(j * math.pi / m) for j in range(1, m))
    psi = (1 - 2 * (k % 2)) * cos_mt - 2 * k
    share = 1 / (1 + mx.sym.Variable(BETA, shape=(1,)))
    return cos_t + mx.sym.broadcast_mul(psi - cos_t, share)


def cosface(cos_t, options):
    """cos t - m: CosFace, arXiv 1801.09414, equation 4."""
    return cos_t - options.margin_m


def arcface(cos_t, options):
    """cos(t + m): ArcFace, arXiv 1801.07698, equation 3; past t = pi - m, where it would rise again, cos t - m sin m.

    With the easy margin: cos(t + m) for t under pi / 2, elsewhere cos t.
    """
    m = options.margin_m
    if options.easy_margin:
        return mx.sym.where(cos_t > 0, cosine_of_sum(cos_t, m), cos_t)
    return mx.sym.where(cos_t > math.cos(math.pi - m), cosine_of_sum(cos_t, m), cos_t - m * math.sin(m))


def combined(cos_t, options):
    """cos(a t + m) - b: the combined margin, arXiv 1801.07698, equation 4."""
    if options.margin_a == 1:
        return cosine_of_sum(cos_t, options.margin_m) - options.margin_b
    return mx.sym.cos(options.margin_a * angle(cos_t) + options.margin_m) - options.margin_b


def additive_angle(cos_t, options):
    """cos(t + m) at every angle."""
    return cosine_of_sum(cos_t, options.margin_m)


def intra_loss(cos_t, weight, label):
    """Mean of t / pi: how far samples are from their class; arXiv 1801.07698, equation 5."""
    return mx.sym.mean(angle(cos_t) / math.pi)


def inter_loss(cos_t, weight, label):
    """Mean over samples and classes of the cosine between their class weights; arXiv 1801.07698, equation 6.

    A mean of inner products is the inner product of the means, which spares a samples x classes array.
    """
    of_samples = mx.sym.mean(mx.sym.take(weight, label), axis=0)
    return mx.sym.sum(of_samples * mx.sym.mean(weight, axis=0))


class Range(NamedTuple):
    """The values an option may have, in words and as a test."""

    text: str
    holds: Callable


class Loss(NamedTuple):
    """A row of LOSSES: the margin (cos_t, options) -> cosine, and what its options may be."""

    name: str
    margin: Optional[Callable]
    ranges: Dict[str, Range]
    extra: Optional[Callable] = None  # (cos_t, normalised weight, label) -> number, trained with gradient scale b
    unit_embedding: bool = True


POSITIVE = Range("more than 0", lambda value: value > 0)
NOT_NEGATIVE = Range("0 or more", lambda value: value >= 0)
AT_LEAST_ONE = Range("1 or more", lambda value: value >= 1)
ACUTE = Range("at least 0 and less than pi / 2", lambda value: 0 <= value < math.pi / 2)

ANGULAR = {"margin_s": POSITIVE, "margin_m": NOT_NEGATIVE}
LOSSES = {
    0: Loss("softmax", None, {}),
    1: Loss(
        "SphereFace",
        sphereface,
        {"margin": AT_LEAST_ONE, "beta": NOT_NEGATIVE, "beta_min": NOT_NEGATIVE},
        unit_embedding=False,
    ),
    2: Loss("CosFace", cosface, {"margin_s": POSITIVE, "margin_m": POSITIVE}),
    4: Loss("ArcFace", arcface, {"margin_s": POSITIVE, "margin_m": ACUTE}),
    5: Loss("combined margin", combined, {**ANGULAR, "margin_a": POSITIVE, "margin_b": NOT_NEGATIVE}),
    6: Loss("ArcFace and intra loss", additive_angle, ANGULAR, intra_loss),
    7: Loss("ArcFace and inter loss", additive_angle, ANGULAR, inter_loss),
}
ELSEWHERE = {
    3: "3 was never a loss of train_softmax.py",
    12: "12 (triplet) belongs to train_triplet.py",
    13: "13 (angular triplet) belongs to train_triplet.py",
}


def check_options(options):
    """Raise ValueError for a loss type that is none, or an option outside its range, naming what is allowed."""
    loss_type = options.loss_type
    if loss_type not in LOSSES:
        known = ", ".join(f"{number} {loss.name}" for number, loss in LOSSES.items())
        raise ValueError(f"--loss-type {loss_type}: {ELSEWHERE.get(loss_type, 'unknown')}; choose from {known}")
    for name, allowed in LOSSES[loss_type].ranges.items():
        value = getattr(options, name)
        if not allowed.holds(value):
            option = name.replace("_", "-")
            raise ValueError(f"--{option} {value}: --loss-type {loss_type} needs a value {allowed.text}")


def training_symbol(embedding, num_classes, options):
    """The graph to train: a Group of the embedding (no gradient), `softmax`, any extra loss and any cross-entropy.

    embedding: symbol, samples x emb_size. Labels are the variable `softmax_label`; the class weights `fc7_weight`,
    classes x emb_size. No samples x classes array is held beside the logits, their softmax and their gradient.
    SphereFace reads beta from a state: see state_names and set_beta. Raises ValueError as check_options does.
    """
    return _symbol(embedding, num_classes, options, _add_scattered)


def checkpoint_symbol(embedding, num_classes, options):
    """The graph to save: the same outputs, in operators that MXNet 1.3 has too, with beta fixed at its minimum."""
    symbol = _symbol(embedding, num_classes, options, _add_one_hot)
    return symbol(**{name: mx.sym.full((1,), options.beta_min) for name in state_names(options)})


def state_names(options):
    """Names of the Module's `state_names`: inputs that are neither trained nor saved."""
    return [BETA] if options.loss_type == 1 else []


def set_beta(module, value):
    """Give SphereFace's beta to all contexts of a bound Module, for the batches from now on."""
    module.set_states(value=value)


def sphereface_beta(step, options, num_classes):
    """Weight of plain softmax in SphereFace after `step` batches: `beta` at first, later falling to `beta_min`."""
    freeze, gamma = (5000, 0.06) if num_classes > 20000 else (options.beta_freeze, options.gamma)
    if step < freeze:
        return options.beta
    return max(options.beta_min, options.beta * (1 + gamma * (step - freeze)) ** -options.power)


def _symbol(embedding, num_classes, options, add_to_targets):
    check_options(options)
    label = mx.sym.Variable("softmax_label")
    weight = mx.sym.Variable(
        "fc7_weight",
        shape=(num_classes, options.emb_size),
        lr_mult=options.fc7_lr_mult,
        wd_mult=options.fc7_wd_mult,
    )
    if LOSSES[options.loss_type].margin is None:
        logits, extra = _inner_products(embedding, weight, num_classes, options), []
    else:
        logits, extra = _margin_logits(embedding, weight, label, num_classes, options, add_to_targets)
    softmax = mx.sym.SoftmaxOutput(logits, label, name="softmax", normalization="valid")
    entropy = [_cross_entropy(softmax, label)] if options.ce_loss else []
    return mx.sym.Group([mx.sym.BlockGrad(embedding), softmax, *extra, *entropy])


def _inner_products(embedding, weight, num_classes, options):
    """x.W + b, the logits of plain softmax."""
    if options.fc7_no_bias:
        return mx.sym.FullyConnected(embedding, weight, no_bias=True, num_hidden=num_classes, name="fc7")
    bias = mx.sym.Variable("fc7_bias", lr_mult=2.0, wd_mult=0.0)
    return mx.sym.FullyConnected(embedding, weight, bias, num_hidden=num_classes, name="fc7")


def _margin_logits(embedding, weight, label, num_classes, options, add_to_targets):
    """Scaled cosines, the targets' with their margin; and a list of the extra loss, if there is one."""
    loss = LOSSES[options.loss_type]
    weight = mx.sym.L2Normalization(weight, mode="instance")
    scaled, scale = (_unit if loss.unit_embedding else _with_length)(embedding, options)
    fc7 = mx.sym.FullyConnected(scaled, weight, no_bias=True, num_hidden=num_classes, name="fc7")
    target = mx.sym.pick(fc7, label, axis=1)
    cos_t = target / scale
    change = scale * loss.margin(cos_t, options) - target
    extra = [_extra_loss(loss.extra, cos_t, weight, label, options)] if loss.extra else []
    return add_to_targets(fc7, label, change, num_classes), extra


def _unit(embedding, options):
    """The embedding at length s, and s."""
    return mx.sym.L2Normalization(embedding, mode="instance", name="fc1n") * options.margin_s, options.margin_s


def _with_length(embedding, options):
    """The embedding as it is, and its length."""
    embedding = mx.sym.clip(embedding, -1e15, 1e15)  # so that the squares do not overflow
    return embedding, mx.sym.sqrt(mx.sym.sum(mx.sym.square(embedding), axis=1) + SMALL)


def _add_scattered(fc7, label, change, num_classes):
    """Add one number to each row's target, in memory that the logits' gradient takes over later."""
    label = mx.sym.clip(label, 0, num_classes - 1)  # scatter_nd writes wherever it is told to, outside the array too
    places = mx.sym.stack(mx.sym.contrib.arange_like(label), label)
    return fc7 + mx.sym.scatter_nd(change, places, shape=(-1, num_classes))


def _add_one_hot(fc7, label, change, num_classes):
    """Add one number to each row's target by way of two samples x classes arrays."""
    one_hot = mx.sym.one_hot(label, depth=num_classes)
    return fc7 + mx.sym.broadcast_mul(one_hot, mx.sym.expand_dims(change, axis=1))


def _extra_loss(function, cos_t, weight, label, options):
    return mx.sym.MakeLoss(function(cos_t, weight, label), grad_scale=options.margin_b, name=function.__name__)


def _cross_entropy(softmax, label):
    """Mean of -log p(label) under the softmax that is trained, margin included; at most 87."""
    probability = mx.sym.maximum(mx.sym.pick(softmax, label, axis=1), TINY)
    return mx.sym.BlockGrad(-mx.sym.mean(mx.sym.log(probability)), name="ce_loss")
