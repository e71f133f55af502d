"""What is shown of the training itself; output 1 of the training symbol is the softmax."""

import numpy as np

from insightface_mx.base.compat import mx


class AccMetric(mx.metric.EvalMetric):
    """Share of training images whose class has the highest probability (for margin losses: in spite of the margin)."""

    def __init__(self):
        super().__init__("acc", has_global_stats=True)

    def update(self, labels, preds):
        predicted = mx.nd.argmax(preds[1], axis=1)
        _add(self, (predicted == labels[0].reshape(-1).as_in_context(predicted.context)).sum(), predicted.size)


class LossMetric(mx.metric.EvalMetric):
    """Mean cross-entropy of what is trained, from the probability of each image's class."""

    def __init__(self):
        super().__init__("loss", has_global_stats=True)

    def update(self, labels, preds):
        probability = mx.nd.pick(preds[1], labels[0].as_in_context(preds[1].context), axis=1)
        _add(self, -mx.nd.log(mx.nd.maximum(probability, np.finfo(np.float32).tiny)).sum(), probability.size)


class LossValueMetric(mx.metric.EvalMetric):
    """The last output of the training symbol, with --ce-loss the cross-entropy."""

    def __init__(self):
        super().__init__("lossvalue", has_global_stats=True)

    def update(self, labels, preds):
        _add(self, preds[-1].mean(), 1)


def _add(metric, value, count):
    value = value.asscalar()
    metric.sum_metric += value
    metric.global_sum_metric += value
    metric.num_inst += count
    metric.global_num_inst += count
