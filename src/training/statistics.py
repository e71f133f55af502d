"""Figures of the training itself that tell early whether it goes well."""

import logging

from insightface_mx.base.compat import mx
from insightface_mx.engine.module_state import executors

_SMALL = 1e-10


class TrainingFigures:
    """Means over the batches since the last test: the embedding's length, and the angle to its class.

    module: the bound Module; output 0 is the embedding. angle: whether it has class weights that embeddings are
    compared with by their angle (degrees). One that stays near 90 says that nothing is learnt; ArcFace, arXiv
    1801.07698, figure 3, shows how it falls.
    """

    def __init__(self, module, angle):
        self._module, self._angle = module, angle
        self._batches, self._sums = 0, {}

    def update(self, batch):
        """Take account of the batch that went forward, before its update."""
        embedding = self._module.get_outputs()[0]
        lengths = mx.nd.norm(embedding, axis=1)
        values = {"Train-XNorm": lengths.mean()}
        if self._angle:
            weight = executors(self._module)[0].arg_dict["fc7_weight"]
            own = mx.nd.take(weight, batch.label[0].as_in_context(weight.context))
            cos = (embedding * own).sum(axis=1) / (lengths * mx.nd.norm(own, axis=1) + _SMALL)
            values["Train-Angle"] = mx.nd.degrees(mx.nd.arccos(mx.nd.clip(cos, -1, 1))).mean()
        self._sums = {name: value + self._sums.get(name, 0) for name, value in values.items()}
        self._batches += 1

    def report(self, step):
        """Log the means at batch `step` and begin anew; returns them by name."""
        means = {name: total.asscalar() / self._batches for name, total in self._sums.items()}
        for name, mean in means.items():
            logging.info("[%d]%s: %f", step, name, mean)
        self._batches, self._sums = 0, {}
        return means
