"""The margin of the labelled classes, whose logits are brought together for it from all shards."""

from __future__ import annotations

from typing import Any

from insightface_mx.base.compat import Context, NDArray, Params, Symbol, mx

TARGET, SCALE, BETA = "target", "scale", "fc7_beta"
OF_SAMPLES, OF_CLASSES = "mean_of_samples", "mean_of_classes"  # mean unit class weights


class TargetMargin:
    """A graph from the logits of the labelled classes to those that take their places, with its gradients."""

    def __init__(self, symbol: Symbol, context: Context) -> None:
        """Prepare a graph.

        Args:
            symbol: `plan.SplitLoss.target`.
            context: Where it runs.
        """
        self._symbol, self._context = symbol, context
        self.inputs = symbol.list_arguments()
        self._executor: Any = None
        self._beta = 0.0

    def set_beta(self, value: float) -> None:
        """Set SphereFace's beta."""
        self._beta = value

    def forward(self, values: Params) -> NDArray:
        """Compute the logits, one a sample, from the inputs by name; beta is not among them."""
        if BETA in self.inputs:
            values = {**values, BETA: mx.nd.full((1,), self._beta, ctx=self._context)}
        shapes = {name: values[name].shape for name in self.inputs}
        if self._executor is None or shapes != {name: self._executor.arg_dict[name].shape for name in self.inputs}:
            self._executor = self._symbol.simple_bind(self._context, "write", **shapes)
        return self._executor.forward(is_train=True, **{name: values[name] for name in self.inputs})[0]

    def backward(self, gradient: NDArray) -> Params:
        """Return the gradients by the inputs, that of an extra loss included; gradient: by the logits."""
        outputs = self._executor.outputs
        self._executor.backward([gradient, *map(mx.nd.ones_like, outputs[1:])])
        return {name: self._executor.grad_dict[name] for name in self.inputs}
