"""A block of class weights in the memory of its context, and what a training step does with it.

In margin losses the logits are z = r (x.w) with r = 1 / |w|; x is the scaled embedding. With g, the gradient of the
loss by z, the gradient by x is sum of g r w, and that by w is d - r^2 (w.d) w, where d is the sum of g r x. None of
this needs a second array of all class weights.
"""

from __future__ import annotations

from typing import Any, Dict, NamedTuple

import numpy as np

from insightface_mx.base.compat import L2_EPSILON, Context, NDArray, mx
from insightface_mx.shards.plan import BIAS, WEIGHT

Arrays = Dict[str, NDArray]  # fc7_weight and maybe fc7_bias -> rows of a block
Settings = Dict[str, Dict[str, Any]]  # the names that are trained -> lr, wd, momentum ... of MXNet's operators


class Softmax(NamedTuple):
    """The softmax of a block alone, a number a sample: its largest logit, and the sum of exp(logit - largest)."""

    largest: NDArray
    total: NDArray


class Further(NamedTuple):
    """A gradient by unit class weights: `by_class` of each class, and `by_sample` for each sample of the class."""

    by_class: NDArray
    by_sample: NDArray
    samples: NDArray


class Block:
    """Class weights of some classes; one step goes through `begin`, `softmax`, `input_gradient` and `update`."""

    def __init__(self, classes: range, context: Context, unit: bool, arrays: Arrays) -> None:
        """Keep class weights.

        Args:
            classes: Of the block.
            context: Where the arrays are.
            unit: Whether the logits are those of class weights of length 1.
            arrays: The class weights and maybe their biases.
        """
        self.classes, self.context, self.arrays = classes, context, arrays
        self.momenta: Arrays = {}
        self._unit = unit
        self._inverse: NDArray | None = None  # 1 / |w| of all classes, where it is known
        self._places: NDArray | None = None  # of the sampled classes; None: all are taken
        self._active: Arrays = {}
        self._active_inverse: NDArray | None = None
        self._values: NDArray = None  # samples x classes: logits, then exp(logits), then their gradient

    def rows(self, places: np.ndarray) -> Arrays:
        """Return class weights, and biases, of classes of the block."""
        index = self._index(places)
        return {name: mx.nd.take(array, index) for name, array in self.arrays.items()}

    def begin(self, places: np.ndarray | None) -> int:
        """Choose the classes of the next batch; return their number.

        Args:
            places: Of the classes in the block, in rising order; None: all.
        """
        self._places = None if places is None else self._index(places)
        self._active = self.arrays if places is None else self.rows(places)
        if self._unit:
            known = self._inverse if places is None else None
            self._active_inverse = _inverse_lengths(self._active[WEIGHT]) if known is None else known
            self._inverse = self._active_inverse if places is None else None
        return self._active[WEIGHT].shape[0]

    def sum_of_unit_weights(self) -> NDArray:
        """Return the sum of the chosen unit class weights, (length of the embedding,)."""
        return mx.nd.dot(self._active_inverse, self._active[WEIGHT])

    def softmax(self, x: NDArray, targets: NDArray | None, logits: NDArray | None) -> Softmax:
        """Compute the logits, and their softmax in the block.

        Args:
            x: Scaled embeddings, samples x length.
            targets: Places in the samples x chosen classes of the samples with a class of this block; None for none.
            logits: Of these samples, which take the place of the computed ones.
        """
        chosen = self._active[WEIGHT].shape[0]
        with mx.autograd.train_mode():  # otherwise oneDNN changes the layout of the class weights
            values = mx.nd.FullyConnected(
                x, *self._active.values(), no_bias=BIAS not in self._active, num_hidden=chosen
            )
        if self._active_inverse is not None:
            mx.nd.broadcast_mul(values, self._active_inverse.reshape((1, -1)), out=values)
        _set(values.reshape(-1), targets, logits)
        largest = mx.nd.topk(values, k=1, ret_typ="value")
        mx.nd.broadcast_sub(values, largest, out=values)
        mx.nd.exp(values, out=values)
        self._values = values
        return Softmax(largest.reshape(-1), mx.nd.dot(values, mx.nd.ones(values.shape[1], ctx=self.context)))

    def input_gradient(self, factors: NDArray, targets: NDArray | None, gradients: NDArray | None) -> NDArray:
        """Return the block's part of the gradient by x.

        Args:
            factors: From exp(logit - largest) of the block to the gradient by the logit, (samples,).
            targets: As for `softmax`.
            gradients: By the logit of the samples with a class of this block, before the margin.
        """
        values = self._values
        mx.nd.broadcast_mul(values, factors.reshape((-1, 1)), out=values)
        _set(values.reshape(-1), targets, gradients)
        if self._active_inverse is not None:
            mx.nd.broadcast_mul(values, self._active_inverse.reshape((1, -1)), out=values)
        return mx.nd.dot(values, self._active[WEIGHT])

    def update(self, x_transposed: NDArray, further: Further | None, settings: Settings) -> None:
        """Update what is trained by SGD, and forget the batch.

        Args:
            x_transposed: Scaled embeddings, length x samples.
            further: A gradient that comes on top, or None.
            settings: What is trained, and how.
        """
        values, active = self._values, self._active
        gradients: Arrays = {}
        if BIAS in settings:
            gradients[BIAS] = mx.nd.sum(values, axis=0)
        if WEIGHT in settings:
            by_class = mx.nd.transpose(values)
            gradient = mx.nd.FullyConnected(by_class, x_transposed, no_bias=True, num_hidden=x_transposed.shape[0])
            gradients[WEIGHT] = self._project(gradient, further) if self._unit else gradient
        for name, gradient in gradients.items():
            self._descend(name, active[name], gradient, settings[name])
        if self._unit and WEIGHT in settings:
            self._inverse = _inverse_lengths(active[WEIGHT]) if self._places is None else None
        self._values, self._active, self._active_inverse = None, {}, None

    def _project(self, gradient: NDArray, further: Further | None) -> NDArray:
        """Return the gradient by class weights from the one by unit class weights, of which 1 / |w| is a factor."""
        assert self._active_inverse is not None
        weight, inverse = self._active[WEIGHT], self._active_inverse.reshape((-1, 1))
        if further is not None:
            of_samples = mx.nd.dot(further.samples.reshape((-1, 1)), further.by_sample.reshape((1, -1)))
            on_top = mx.nd.broadcast_add(of_samples, further.by_class.reshape((1, -1)))
            gradient = gradient + mx.nd.broadcast_mul(on_top, inverse)
        along = _row_sums(weight * gradient).reshape((-1, 1)) * inverse * inverse
        return mx.nd.elemwise_sub(gradient, mx.nd.broadcast_mul(weight, along), out=gradient)

    def _descend(self, name: str, array: NDArray, gradient: NDArray, settings: dict[str, Any]) -> None:
        """Make one step of SGD, as `engine.optimizer.SGD` does."""
        if not settings["momentum"]:
            mx.nd.sgd_update(array, gradient, out=array, **{k: v for k, v in settings.items() if k != "momentum"})
        else:
            if name not in self.momenta:
                self.momenta[name] = mx.nd.zeros(self.arrays[name].shape, ctx=self.context)
            stored = self.momenta[name]
            momentum = stored if self._places is None else mx.nd.take(stored, self._places)
            mx.nd.sgd_mom_update(array, gradient, momentum, out=array, **settings)
            if self._places is not None:
                _set(stored, self._places, momentum)
        if self._places is not None:
            _set(self.arrays[name], self._places, array)

    def _index(self, places: np.ndarray) -> NDArray:
        return mx.nd.array(places, ctx=self.context, dtype="int32")


def _inverse_lengths(weight: NDArray) -> NDArray:
    """Return 1 / |w| of each class, finite for weights of 0."""
    return mx.nd.rsqrt(_row_sums(mx.nd.square(weight)) + L2_EPSILON)


def _row_sums(array: NDArray) -> NDArray:
    """Return the sum of each row; as a product it takes a quarter of the time of mx.nd.sum on a CPU."""
    return mx.nd.dot(array, mx.nd.ones(array.shape[1], ctx=array.context))


def _set(array: NDArray, places: NDArray | None, rows: NDArray | None) -> None:
    """Write rows of an array in place."""
    if places is not None:
        mx.nd.contrib.index_copy(array, places, rows, out=array)
