"""Metrics of the training batches, and two early-warning statistics: embedding length and angle to the own class."""

from __future__ import annotations

import logging

import numpy as np

from insightface_mx.base.compat import Module, MXNet, NDArray, mx
from insightface_mx.engine.module_state import own_class_weights

_SMALL = 1e-10  # keeps a division finite


class AccMetric(mx.metric.EvalMetric):
    """Fraction of training images whose class has the highest probability (in margin losses: in spite of the margin).

    Output 1 of the training symbol is the softmax.
    """

    def __init__(self) -> None:
        super().__init__("acc", has_global_stats=True)

    def update(self, labels: list[NDArray], preds: list[NDArray]) -> None:
        """Add a batch: its labels, and the outputs of the training symbol."""
        predicted = mx.nd.argmax(preds[1], axis=1)
        _add(self, (predicted == labels[0].reshape(-1).as_in_context(predicted.context)).sum(), predicted.size)


class LossMetric(mx.metric.EvalMetric):
    """Mean cross-entropy, margin included, from the softmax probability of each image's class."""

    def __init__(self) -> None:
        super().__init__("loss", has_global_stats=True)

    def update(self, labels: list[NDArray], preds: list[NDArray]) -> None:
        """Add a batch: its labels, and the outputs of the training symbol."""
        probability = mx.nd.pick(preds[1], labels[0].as_in_context(preds[1].context), axis=1)
        _add(self, -mx.nd.log(mx.nd.maximum(probability, np.finfo(np.float32).tiny)).sum(), probability.size)


class LossValueMetric(mx.metric.EvalMetric):
    """Mean of the last output of the training symbol: the triplet loss, or the cross-entropy of --ce-loss."""

    def __init__(self) -> None:
        super().__init__("lossvalue", has_global_stats=True)

    def update(self, _labels: list[NDArray], preds: list[NDArray]) -> None:
        """Add a batch: its labels, and the outputs of the training symbol."""
        _add(self, preds[-1].mean(), 1)


class MeanMetric(mx.metric.EvalMetric):
    """Mean of an output that holds one number a sample."""

    def __init__(self, name: str, output: int) -> None:
        """Take the metric's name, and the index of the output."""
        super().__init__(name, has_global_stats=True)
        self._output = output

    def update(self, _labels: list[NDArray], preds: list[NDArray]) -> None:
        """Add a batch."""
        values = preds[self._output]
        _add(self, values.sum(), values.size)


def sharded_metrics(cross_entropy: bool) -> MXNet:
    """Return accuracy and loss of a Module with class weights in shards; cross_entropy: see `softmax_metrics`."""
    metrics = [MeanMetric("acc", 1), MeanMetric("loss", 2)]
    if cross_entropy:
        metrics.append(LossValueMetric())
    return mx.metric.CompositeEvalMetric(metrics)


def softmax_metrics(cross_entropy: bool) -> MXNet:
    """Return accuracy and loss as one metric; cross_entropy: and the last output of the symbol."""
    metrics = [AccMetric(), LossMetric()]
    if cross_entropy:
        metrics.append(LossValueMetric())
    return mx.metric.CompositeEvalMetric(metrics)


def _add(metric: MXNet, value: NDArray, count: int) -> None:
    """Add a sum over `count` images to a metric's values, those since the last line and those of the epoch."""
    total = value.asscalar()
    metric.sum_metric += total
    metric.global_sum_metric += total
    metric.num_inst += count
    metric.global_num_inst += count


class TrainingStatistics:
    """Two early-warning statistics of training: mean embedding length and mean angle to the own class center.

    They are means over the batches since the last report. An angle that stays near 90 degrees shows that the network
    learns nothing; ArcFace, arXiv 1801.07698, figure 3, shows how it falls.
    """

    def __init__(self, module: Module, angle: bool) -> None:
        """Start with no batch.

        Args:
            module: The bound Module in training; its output 0 is the embedding.
            angle: Also report the mean angle in degrees; only for losses with class weights.
        """
        self._module, self._angle = module, angle
        self._batches = 0
        self._sums: dict[str, NDArray] = {}

    def update(self, batch: MXNet) -> None:
        """Add the batch that went forward; call before the parameters change."""
        embedding = self._module.get_outputs()[0]
        lengths = mx.nd.norm(embedding, axis=1)
        values = {"Train-XNorm": lengths.mean()}
        if self._angle:
            own = own_class_weights(self._module, batch.label[0])
            cos = (embedding * own).sum(axis=1) / (lengths * mx.nd.norm(own, axis=1) + _SMALL)
            values["Train-Angle"] = mx.nd.degrees(mx.nd.arccos(mx.nd.clip(cos, -1, 1))).mean()
        self._sums = {name: value + self._sums.get(name, 0) for name, value in values.items()}
        self._batches += 1

    def report(self, step: int) -> dict[str, float]:
        """Log the means at batch `step`, start again, and return them by name."""
        means = {name: total.asscalar() / self._batches for name, total in self._sums.items()}
        for name, mean in means.items():
            logging.info("[%d]%s: %f", step, name, mean)
        self._batches, self._sums = 0, {}
        return means
