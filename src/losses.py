"""The losses on top of an embedding: class weights, cosines, the margin of the labelled class, scale and softmax.

All margin losses take one path, `margin_logits`: the cosines between embeddings and class weights are computed, the
cosine of the labelled class is replaced by a margin function of itself, and everything is scaled and goes through
softmax. Then comes one function for each paper, and LOSSES names the margin of each --loss-type.

t is the angle between an embedding and the weights of its own class, and `cos_t` a vector of one cosine a sample. No
loss divides by zero or leaves the domain of sqrt or arccos: values and gradients are finite for finite input (in loss
type 0 as long as x.W itself is finite).
"""

from __future__ import annotations

import math
from typing import Callable, NamedTuple, Tuple

from insightface_mx.base.compat import L2_EPSILON, Module, Symbol, mx
from insightface_mx.cli.fields import changed
from insightface_mx.cli.types import AT_LEAST_ONE, NOT_NEGATIVE, POSITIVE, Range
from insightface_mx.options import LossOptions
from insightface_mx.shards.plan import BIAS, WEIGHT
from insightface_mx.shards.target import BETA
from insightface_mx.training.batches import DataBatch, Observer

NEAR_ONE = 0.99999994  # the largest float32 under 1: here arccos still has a finite slope
TINY = 1.2e-38  # the smallest float32 that is not denormal
LONGEST = 1e15  # an element of an embedding; larger ones would overflow when squared

MeanWeights = Tuple[Symbol, Symbol]  # of the samples' classes, and of all classes


# The graph.


def training_symbol(embedding: Symbol, num_classes: int, options: LossOptions, emb_size: int) -> Symbol:
    """Make the graph to train.

    It holds no samples x classes array besides the logits, their softmax and their gradient. SphereFace reads beta from
    a state: see `state_names` and `set_beta`.

    Args:
        embedding: Samples x emb_size. The labels are the variable `softmax_label`, and the class weights
            `fc7_weight`, classes x emb_size.
        num_classes: Number of classes.
        options: The loss and its margin.
        emb_size: Length of the embedding.

    Returns:
        A Group of the embedding (without gradient), `softmax`, the extra loss of types 6 and 7, and `ce_loss` if the
        options ask for it.

    Raises:
        ValueError: As `check_options` does.
    """
    return _with_softmax(embedding, num_classes, options, emb_size, portable=False)


def checkpoint_symbol(embedding: Symbol, num_classes: int, options: LossOptions, emb_size: int) -> Symbol:
    """Make the graph to save: `training_symbol` in operators that MXNet 1.3 has too, with beta fixed at its minimum."""
    symbol = _with_softmax(embedding, num_classes, options, emb_size, portable=True)
    return symbol(**{name: mx.sym.full((1,), options.beta_min) for name in state_names(options)})


def _with_softmax(embedding: Symbol, num_classes: int, options: LossOptions, emb_size: int, portable: bool) -> Symbol:
    """Put logits, softmax and what else is computed of them on an embedding; portable: see `add_to_targets`."""
    check_options(options)
    label = mx.sym.Variable("softmax_label")
    weight = class_weights(num_classes, emb_size, options)
    if LOSSES[options.loss_type].margin is None:
        logits = inner_products(embedding, weight, num_classes, options.fc7_no_bias)
        extra: list[Symbol] = []
    else:
        logits, extra = margin_logits(embedding, weight, label, num_classes, options, portable)
    softmax = mx.sym.SoftmaxOutput(logits, label, name="softmax", normalization="valid")
    entropy = [cross_entropy(softmax, label)] if options.ce_loss else []
    return mx.sym.Group([mx.sym.BlockGrad(embedding), softmax, *extra, *entropy])


def inner_products(embedding: Symbol, weight: Symbol, num_classes: int, no_bias: bool) -> Symbol:
    """Return x.W + b, the logits of plain softmax."""
    if no_bias:
        return mx.sym.FullyConnected(embedding, weight, no_bias=True, num_hidden=num_classes, name="fc7")
    return mx.sym.FullyConnected(embedding, weight, class_biases(), num_hidden=num_classes, name="fc7")


def class_weights(num_classes: int, emb_size: int, options: LossOptions) -> Symbol:
    """Return the variable of the class weights, classes x emb_size."""
    multipliers = {"lr_mult": options.fc7_lr_mult, "wd_mult": options.fc7_wd_mult}
    return mx.sym.Variable(WEIGHT, shape=(num_classes, emb_size), **multipliers)


def class_biases() -> Symbol:
    """Return the variable of the biases of plain softmax."""
    return mx.sym.Variable(BIAS, lr_mult=2.0, wd_mult=0.0)


def margin_logits(
    embedding: Symbol, weight: Symbol, label: Symbol, num_classes: int, options: LossOptions, portable: bool
) -> tuple[Symbol, list[Symbol]]:
    """Return s cos(angle) for all classes and s margin(cos t) for the labelled class; and a list of the extra loss.

    Unit vectors -> cosines -> the target's margin -> scale. In SphereFace the scale s is the length of the embedding.

    Args:
        embedding: Samples x emb_size.
        weight: Class weights, classes x emb_size.
        label: Class of each sample.
        num_classes: Number of classes.
        options: The loss and its margin.
        portable: See `add_to_targets`.
    """
    weight = mx.sym.L2Normalization(weight, mode="instance")
    scaled, scale = scaled_embedding(embedding, options)
    fc7 = mx.sym.FullyConnected(scaled, weight, no_bias=True, num_hidden=num_classes, name="fc7")
    target = mx.sym.pick(fc7, label, axis=1)
    cos_t = target / scale
    change = with_margin(cos_t, scale, options) - target
    extra = extra_losses(cos_t, lambda: mean_weights(weight, label), options)
    return add_to_targets(fc7, label, change, num_classes, portable), extra


def scaled_embedding(embedding: Symbol, options: LossOptions) -> tuple[Symbol, Symbol | float]:
    """Return what a margin loss multiplies with unit class weights, and its length: --margin-s; in SphereFace |x|."""
    if LOSSES[options.loss_type].unit_embedding:
        return mx.sym.L2Normalization(embedding, mode="instance", name="fc1n") * options.margin_s, options.margin_s
    scaled = mx.sym.clip(embedding, -LONGEST, LONGEST)
    return scaled, mx.sym.sqrt(mx.sym.sum(mx.sym.square(scaled), axis=1) + L2_EPSILON)


def with_margin(cos_t: Symbol, scale: Symbol | float, options: LossOptions) -> Symbol:
    """Return the logit of the labelled class, s margin(cos t)."""
    margin = LOSSES[options.loss_type].margin
    assert margin is not None
    return scale * margin(cos_t, options)


def extra_losses(cos_t: Symbol, means: Callable[[], MeanWeights], options: LossOptions) -> list[Symbol]:
    """Return the extra loss of types 6 and 7 in a list, otherwise none; means: see ExtraLoss."""
    extra = LOSSES[options.loss_type].extra
    if extra is None:
        return []
    return [mx.sym.MakeLoss(extra.value(cos_t, means), grad_scale=options.margin_b, name=extra.operator_name)]


def mean_weights(weight: Symbol, label: Symbol) -> MeanWeights:
    """Return the means of unit class weights over the samples and over the classes."""
    return mx.sym.mean(mx.sym.take(weight, label), axis=0), mx.sym.mean(weight, axis=0)


def add_to_targets(fc7: Symbol, label: Symbol, change: Symbol, num_classes: int, portable: bool) -> Symbol:
    """Add one number to the logit of each sample's own class.

    Args:
        fc7: Logits, samples x classes.
        label: Class of each sample.
        change: The numbers to add, one a sample.
        num_classes: Number of classes.
        portable: Use operators that MXNet 1.3 has, too. They take two more samples x classes arrays; the others compute
            in memory that the logits' gradient uses later.
    """
    if portable:
        one_hot = mx.sym.one_hot(label, depth=num_classes)
        return fc7 + mx.sym.broadcast_mul(one_hot, mx.sym.expand_dims(change, axis=1))
    label = mx.sym.clip(label, 0, num_classes - 1)  # scatter_nd also writes outside the array if it is told to
    places = mx.sym.stack(mx.sym.contrib.arange_like(label), label)
    return fc7 + mx.sym.scatter_nd(change, places, shape=(-1, num_classes))


def cross_entropy(softmax: Symbol, label: Symbol) -> Symbol:
    """Return the mean of -log p(label) under the softmax that is trained, margin included; at most 87."""
    probability = mx.sym.maximum(mx.sym.pick(softmax, label, axis=1), TINY)
    return mx.sym.BlockGrad(-mx.sym.mean(mx.sym.log(probability)), name="ce_loss")


# The margins, one function a paper: from cos t to what takes its place.


def sphereface(cos_t: Symbol, m: int) -> Symbol:
    """Return (beta cos t + psi(t)) / (1 + beta), with the variable `fc7_beta` as beta.

    psi(t) = (-1)^k cos(m t) - 2k for t in [k pi/m, (k+1) pi/m]: SphereFace, arXiv 1704.08063, equation 7, annealed.
    """
    previous, cos_mt = 1, cos_t
    for _ in range(m - 1):  # cos((n+1) t) = 2 cos t cos(n t) - cos((n-1) t)
        previous, cos_mt = cos_mt, 2 * cos_t * cos_mt - previous
    k = sum(cos_t < math.cos(j * math.pi / m) for j in range(1, m))
    psi = (1 - 2 * (k % 2)) * cos_mt - 2 * k
    fraction = 1 / (1 + mx.sym.Variable(BETA, shape=(1,)))
    return cos_t + mx.sym.broadcast_mul(psi - cos_t, fraction)


def cosface(cos_t: Symbol, m: float) -> Symbol:
    """Return cos t - m: CosFace, arXiv 1801.09414, equation 4."""
    return cos_t - m


def arcface(cos_t: Symbol, m: float, easy: bool = False) -> Symbol:
    """Return cos(t + m), and cos t - m sin m past t = pi - m, where cos(t + m) would rise again.

    With the easy margin: cos(t + m) for t under pi / 2, elsewhere cos t. ArcFace, arXiv 1801.07698, equation 3.
    """
    if easy:
        return mx.sym.where(cos_t > 0, cosine_of_sum(cos_t, m), cos_t)
    return mx.sym.where(cos_t > math.cos(math.pi - m), cosine_of_sum(cos_t, m), cos_t - m * math.sin(m))


def combined(cos_t: Symbol, a: float, m: float, b: float) -> Symbol:
    """Return cos(a t + m) - b: the combined margin, arXiv 1801.07698, equation 4."""
    if a == 1:
        return cosine_of_sum(cos_t, m) - b
    return mx.sym.cos(a * angle(cos_t) + m) - b


def cosine_of_sum(cos_t: Symbol, m: float) -> Symbol:
    """Return cos(t + m) = cos t cos m - sin t sin m, at every angle."""
    sin_t = mx.sym.sqrt(mx.sym.maximum(1 - cos_t * cos_t, 1e-12))
    return cos_t * math.cos(m) - sin_t * math.sin(m)


def angle(cos_t: Symbol) -> Symbol:
    """Return t in radians; the cosine is clipped to +-NEAR_ONE, so that the gradient of arccos stays finite."""
    return mx.sym.arccos(mx.sym.clip(cos_t, -NEAR_ONE, NEAR_ONE))


# The extra losses, which are added to the loss with the weight --margin-b.


def intra_loss(cos_t: Symbol) -> Symbol:
    """Return the mean of t / pi: how far samples are from their class; arXiv 1801.07698, equation 5."""
    return mx.sym.mean(angle(cos_t) / math.pi)


def inter_loss(of_samples: Symbol, of_classes: Symbol) -> Symbol:
    """Return the mean over samples and classes of the cosine between their class weights; 1801.07698, equation 6.

    A mean of inner products is the inner product of the means, which needs no samples x classes array.
    """
    return mx.sym.sum(of_samples * of_classes)


# The table.


class ExtraLoss(NamedTuple):
    """A second loss: its operator's name, which checkpoints hold, and (cos_t, maker of the mean weights) -> scalar."""

    operator_name: str
    value: Callable[[Symbol, Callable[[], MeanWeights]], Symbol]


class Loss(NamedTuple):
    """A row of LOSSES: its margin, (cos_t, options) -> cosine, and the values that its options may have."""

    name: str
    margin: Callable[[Symbol, LossOptions], Symbol] | None = None
    ranges: dict[str, Range] = {}
    others: tuple[str, ...] = ()  # further options that act, in the range that all types have
    extra: ExtraLoss | None = None
    unit_embedding: bool = True  # otherwise the embedding keeps its length


ACUTE = Range("at least 0 and less than pi / 2", lambda value: 0 <= value < math.pi / 2)

SPHEREFACE = 1
LOSSES = {
    0: Loss("softmax", others=("fc7_no_bias",)),
    SPHEREFACE: Loss(
        "SphereFace",
        lambda cos_t, o: sphereface(cos_t, o.margin),
        {"margin": AT_LEAST_ONE, "beta": NOT_NEGATIVE, "beta_min": NOT_NEGATIVE},
        ("beta_freeze", "gamma", "power"),
        unit_embedding=False,
    ),
    2: Loss("CosFace", lambda cos_t, o: cosface(cos_t, o.margin_m), {"margin_s": POSITIVE, "margin_m": POSITIVE}),
    4: Loss(
        "ArcFace",
        lambda cos_t, o: arcface(cos_t, o.margin_m, easy=bool(o.easy_margin)),
        {"margin_s": POSITIVE, "margin_m": ACUTE},
        ("easy_margin",),
    ),
    5: Loss(
        "combined margin",
        lambda cos_t, o: combined(cos_t, o.margin_a, o.margin_m, o.margin_b),
        {"margin_s": POSITIVE, "margin_m": NOT_NEGATIVE, "margin_a": POSITIVE, "margin_b": NOT_NEGATIVE},
    ),
    6: Loss(
        "ArcFace and intra loss",
        lambda cos_t, o: cosine_of_sum(cos_t, o.margin_m),
        {"margin_s": POSITIVE, "margin_m": NOT_NEGATIVE},
        ("margin_b",),
        ExtraLoss("intra_loss", lambda cos_t, _means: intra_loss(cos_t)),
    ),
    7: Loss(
        "ArcFace and inter loss",
        lambda cos_t, o: cosine_of_sum(cos_t, o.margin_m),
        {"margin_s": POSITIVE, "margin_m": NOT_NEGATIVE},
        ("margin_b",),
        ExtraLoss("inter_loss", lambda _cos_t, means: inter_loss(*means())),
    ),
}
ELSEWHERE = {
    3: "3 was never a loss of train_softmax.py",
    12: "12 (triplet) belongs to train_triplet.py",
    13: "13 (angular triplet) belongs to train_triplet.py",
}


def check_options(options: LossOptions) -> None:
    """Check that the loss type exists and that its options are in their ranges.

    Raises:
        ValueError: One is not; the message names the values that are allowed.
    """
    loss_type = options.loss_type
    if loss_type not in LOSSES:
        known = ", ".join(f"{number} {loss.name}" for number, loss in LOSSES.items())
        raise ValueError(f"--loss-type {loss_type}: {ELSEWHERE.get(loss_type, 'unknown')}; choose from {known}")
    for name, allowed in LOSSES[loss_type].ranges.items():
        value = getattr(options, name)
        if not allowed.holds(value):
            option = name.replace("_", "-")
            raise ValueError(f"--{option} {value}: --loss-type {loss_type} needs a value {allowed.text}")


def idle_options(options: LossOptions) -> list[str]:
    """Return the options that are not at their defaults and act on other losses only: '--easy-margin'."""
    rows = {number: {*loss.ranges, *loss.others} for number, loss in LOSSES.items()}
    of_others = set().union(*rows.values()) - rows[options.loss_type]
    return changed(options, *sorted(of_others))


# SphereFace's beta, which falls while it trains.


def state_names(options: LossOptions) -> list[str]:
    """Return the names for the Module's `state_names`: inputs that are neither trained nor saved."""
    return [BETA] if options.loss_type == SPHEREFACE else []


class SphereFaceBeta(Observer):
    """Gives SphereFace's beta to the Module before every batch."""

    def __init__(self, options: LossOptions, num_classes: int) -> None:
        """Let beta fall as `sphereface_beta` says."""
        self._options, self._num_classes = options, num_classes

    def before_batch(self, step: int, _batch: DataBatch, model: Module) -> None:
        """Set the beta of batch `step`, counted from 1."""
        set_beta(model, sphereface_beta(step - 1, self._options, self._num_classes))


def set_beta(module: Module, value: float) -> None:
    """Give SphereFace's beta to all devices of a bound Module, for the batches from now on."""
    module.set_states(value=value)


def sphereface_beta(step: int, options: LossOptions, num_classes: int) -> float:
    """Return the weight of plain softmax in SphereFace after `step` batches: `beta` at first, falling to `beta_min`."""
    freeze, gamma = (5000, 0.06) if num_classes > 20000 else (options.beta_freeze, options.gamma)
    if step < freeze:
        return options.beta
    return max(options.beta_min, options.beta * (1 + gamma * (step - freeze)) ** -options.power)
