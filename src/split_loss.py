"""The training graph of `losses` in two parts, between which shards of class weights compute the logits."""

from __future__ import annotations

from insightface_mx import losses
from insightface_mx.base.compat import Symbol, mx
from insightface_mx.formats.params_file import Shape
from insightface_mx.options import LossOptions
from insightface_mx.shards.plan import BIAS, WEIGHT, SplitLoss
from insightface_mx.shards.target import OF_CLASSES, OF_SAMPLES, SCALE, TARGET


def split_loss(embedding: Symbol, num_classes: int, options: LossOptions, emb_size: int) -> SplitLoss:
    """Make the graph to train in two parts, for class weights in shards; see `losses.training_symbol`.

    Both parts are made by the functions that make the whole graph; only the products with the class weights and the
    softmax are left to the shards.
    """
    losses.check_options(options)
    variables = [losses.class_weights(num_classes, emb_size, options)]
    shapes: dict[str, Shape] = {WEIGHT: (num_classes, emb_size)}
    target = mx.sym.Variable(TARGET)
    is_unit = losses.LOSSES[options.loss_type].margin is not None
    if is_unit:
        scaled, scale = losses.scaled_embedding(embedding, options)
        inputs = [scaled] if isinstance(scale, float) else [scaled, scale]
        length = scale if isinstance(scale, float) else mx.sym.Variable(SCALE)
        cos_t = target / length
        means = mx.sym.Variable(OF_SAMPLES), mx.sym.Variable(OF_CLASSES)
        after = [losses.with_margin(cos_t, length, options), *losses.extra_losses(cos_t, lambda: means, options)]
    else:
        inputs, after = [embedding], [mx.sym.identity(target)]
        if not options.fc7_no_bias:
            variables, shapes = [*variables, losses.class_biases()], {**shapes, BIAS: (num_classes,)}
    body = mx.sym.Group([mx.sym.BlockGrad(embedding), *inputs])
    return SplitLoss(body, mx.sym.Group(after), is_unit, shapes, mx.sym.Group(variables).attr_dict())
