"""All class weights of a run in blocks, and a training step over them: logits, softmax, margin, gradients, SGD.

The logits of the labelled classes are computed first, on the home context, because their margin needs all of them at
once; each block then puts those of its own classes in their places. Blocks exchange three numbers a sample: the largest
logit, the sum of exponentials, and the factor that turns its exponentials into gradients.
"""

from __future__ import annotations

import functools
import math
from typing import Any, Iterable, Iterator, Mapping, NamedTuple, Sequence

import numpy as np

from insightface_mx.base import limits
from insightface_mx.base.compat import L2_EPSILON, Context, NDArray, Params, mx
from insightface_mx.engine.module_state import count_update
from insightface_mx.formats.params_writer import Rows
from insightface_mx.shards.block import Arrays, Block, Further
from insightface_mx.shards.plan import BIAS, WEIGHT, Shards, block_size, blocks_of, place_blocks
from insightface_mx.shards.sampler import sample
from insightface_mx.shards.target import OF_CLASSES, OF_SAMPLES, SCALE, TARGET, TargetMargin

_TINY = np.finfo(np.float32).tiny  # the smallest probability that the metric `loss` counts
_ALL = 1.0  # the sample ratio of all classes

Source = Mapping[str, Any]  # parameter name -> NDArray or numpy array of all classes


class Labelled(NamedTuple):
    """The samples with a class of one block: their indices, and their classes' places among the chosen classes."""

    samples: np.ndarray
    places: np.ndarray
    chosen: int  # classes of the block

    def counts(self) -> np.ndarray:
        """Return the number of samples of each chosen class."""
        return np.bincount(self.places, minlength=self.chosen).astype(np.float32)


class ShardedHead:
    """The class weights of a training run.

    Attributes:
        shapes: Parameter name -> shape, all classes together.
        attributes: Parameter name -> MXNet's attributes.
        outputs: Of the last batch, a number a sample: 1 where the label's logit is the largest, and the cross-entropy.
        step: Number of the batch, which the sampled classes follow from.
    """

    def __init__(self, shards: Shards, contexts: Sequence[Context], frozen: Sequence[str] = ()) -> None:
        """Prepare the class weights; `set_params` fills them.

        Args:
            shards: The training graph, shards and sample.
            contexts: Of the run; the first is the home context.
            frozen: Parameters that are not trained.
        """
        loss = shards.loss
        self._shards, self._home, self._unit = shards, contexts[0], loss.unit_weights
        self.shapes, self.attributes = loss.shapes, loss.attributes
        classes = loss.shapes[WEIGHT][0]
        self._size, self._ranges = block_size(classes), blocks_of(classes)
        self._contexts = place_blocks(classes, shards.count, contexts)
        self._trained = [name for name in loss.shapes if name not in frozen]
        self._margin = TargetMargin(loss.target, self._home)
        self._blocks: list[Block] = []
        self._labelled: list[Labelled] = []
        self._inputs: dict[Context, NDArray] = {}
        self._gradients: Params = {}
        self.outputs: tuple[NDArray, NDArray] = (None, None)
        self.step = 0

    @property
    def fits_in_checkpoint(self) -> bool:
        """Whether one array of MXNet can hold the class weights."""
        return math.prod(self.shapes[WEIGHT]) <= limits.MAX_ARRAY

    def set_params(self, source: Source) -> None:
        """Take the class weights from arrays of all classes; momentum starts from 0."""
        self._blocks = [
            Block(classes, context, self._unit, _rows(source, self.shapes, classes, context))
            for classes, context in zip(self._ranges, self._contexts)
        ]

    def restore_momenta(self, source: Source) -> None:
        """Take momentum from arrays of all classes; what is missing starts from 0."""
        names = [name for name in self.shapes if name in source]
        for block in self._blocks:
            block.momenta = _rows(source, names, block.classes, block.context)

    def params(self) -> dict[str, Rows]:
        """Return the class weights in the order of the classes, to be written."""
        return {name: Rows(self.shapes[name], functools.partial(self._pieces, name, False)) for name in self.shapes}

    def momenta(self) -> dict[str, Rows]:
        """Return the momentum in the order of the classes; nothing before the first update."""
        return {
            name: Rows(self.shapes[name], functools.partial(self._pieces, name, True))
            for name in self.shapes
            if name in self._blocks[0].momenta
        }

    def rows(self, labels: np.ndarray) -> Arrays:
        """Return the class weights, and biases, of classes, in the home context."""
        owners, places = np.divmod(labels, self._size)
        order = np.argsort(owners, kind="stable")
        parts = [self._blocks[owner].rows(places[order][owners[order] == owner]) for owner in np.unique(owners)]
        back = mx.nd.array(np.argsort(order), ctx=self._home, dtype="int32")
        gathered = {
            name: mx.nd.concat(*[part[name].as_in_context(self._home) for part in parts], dim=0) for name in self.shapes
        }
        return {name: mx.nd.take(array, back) for name, array in gathered.items()}

    def own_weights(self, labels: NDArray) -> NDArray:
        """Return the class weights of the samples, in the home context."""
        return self.rows(class_indices(labels))[WEIGHT]

    def forward_backward(self, inputs: Sequence[NDArray], labels: np.ndarray) -> list[NDArray]:
        """Compute the loss of a batch, and its gradient by the inputs.

        Args:
            inputs: In the home context: the scaled embeddings, samples x length, and `scale` where the loss takes it.
            labels: The classes of the samples.

        Returns:
            The gradients of the mean loss over the samples, by each of the inputs.
        """
        x = inputs[0]
        self._labelled = [self._begin(index, labels) for index in range(len(self._blocks))]
        values = self._inputs_of_margin(x, labels)
        values.update(zip([SCALE], inputs[1:]))
        logits = self._margin.forward(values)
        self._inputs = {context: x.as_in_context(context) for context in dict.fromkeys(self._contexts)}
        factors, total, largest = self._softmax(logits)
        shifted = logits - largest
        self.outputs = (shifted >= 0, mx.nd.minimum(mx.nd.log(total) - shifted, -float(np.log(_TINY))))
        self._gradients = self._margin.backward((mx.nd.exp(shifted) / total - 1) / len(labels))
        factors = mx.nd.broadcast_div(factors, (total * len(labels)).reshape((1, -1)))
        self._gradients["x"] = self._input_gradient(factors, self._gradients[TARGET])
        return [self._gradients[name] for name in ("x", SCALE) if name in self._gradients]

    def update(self, optimizer: Any) -> None:
        """Update the class weights by the gradients of the last batch.

        Args:
            optimizer: An mx.optimizer.SGD, which counts the updates and knows rate, decay and momentum.
        """
        common = {"momentum": optimizer.momentum}
        if optimizer.clip_gradient:
            common["clip_gradient"] = optimizer.clip_gradient
        settings = {name: {**count_update(optimizer, name), **common} for name in self._trained}
        transposed = {context: mx.nd.transpose(x) for context, x in self._inputs.items()}
        for block, labelled in zip(self._blocks, self._labelled):
            block.update(transposed[block.context], self._further(block.context, labelled), settings)

    def checked(self) -> Params:
        """Return the arrays of the last batch that must be finite, by name."""
        return {"the cross-entropy": self.outputs[1], "the gradient behind the class weights": self._gradients["x"]}

    def set_beta(self, value: float) -> None:
        """Set SphereFace's beta."""
        self._margin.set_beta(value)

    def _pieces(self, name: str, momenta: bool) -> Iterator[np.ndarray]:
        for block in self._blocks:
            yield (block.momenta if momenta else block.arrays)[name].asnumpy()

    def _begin(self, index: int, labels: np.ndarray) -> Labelled:
        """Choose the classes of a block for a batch."""
        block, shards = self._blocks[index], self._shards
        samples = np.flatnonzero(labels // self._size == index)
        places = labels[samples] % self._size
        if shards.sample_ratio == _ALL:
            return Labelled(samples, places, block.begin(None))
        own, size = np.unique(places), len(block.classes)
        chosen = sample(own, size, shards.sample_ratio, (shards.seed, self.step, index))
        return Labelled(samples, np.searchsorted(chosen, places), block.begin(chosen))

    def _inputs_of_margin(self, x: NDArray, labels: np.ndarray) -> Params:
        """Return the logits of the labelled classes without margin and, for type 7, the means of the class weights."""
        rows = self.rows(labels)
        weight = rows[WEIGHT]
        if self._unit:
            lengths = mx.nd.sqrt(mx.nd.sum(mx.nd.square(weight), axis=1, keepdims=True) + L2_EPSILON)
            weight = mx.nd.broadcast_div(weight, lengths)
        target = mx.nd.sum(x * weight, axis=1)
        values = {TARGET: target + rows[BIAS] if BIAS in rows else target}
        if OF_CLASSES in self._margin.inputs:
            sums = [block.sum_of_unit_weights().as_in_context(self._home) for block in self._blocks]
            values[OF_SAMPLES] = mx.nd.mean(weight, axis=0)
            values[OF_CLASSES] = mx.nd.add_n(*sums) / self._chosen
        return values

    @property
    def _chosen(self) -> int:
        """Classes that the batch is held against."""
        return sum(labelled.chosen for labelled in self._labelled)

    def _softmax(self, logits: NDArray) -> tuple[NDArray, NDArray, NDArray]:
        """Compute the softmax over all blocks.

        Args:
            logits: Of the labelled classes, with margin.

        Returns:
            For each block and sample the factor exp(largest logit of the block - largest of all); for each sample the
            sum of exp(logit - largest), and the largest logit.
        """
        parts = [
            block.softmax(self._inputs[block.context], *self._put(block.context, labelled, logits))
            for block, labelled in zip(self._blocks, self._labelled)
        ]
        highest = mx.nd.stack(*[part.largest.as_in_context(self._home) for part in parts])
        totals = mx.nd.stack(*[part.total.as_in_context(self._home) for part in parts])
        largest = mx.nd.max(highest, axis=0)
        factors = mx.nd.exp(mx.nd.broadcast_sub(highest, largest.reshape((1, -1))))
        return factors, mx.nd.sum(totals * factors, axis=0), largest

    def _input_gradient(self, factors: NDArray, by_target: NDArray) -> NDArray:
        """Return the gradient by the scaled embeddings.

        Args:
            factors: Blocks x samples, as `Block.input_gradient` takes them.
            by_target: The gradient by the logits of the labelled classes, before the margin.
        """
        parts: dict[Context, NDArray] = {}
        for index, (block, labelled) in enumerate(zip(self._blocks, self._labelled)):
            places = self._put(block.context, labelled, by_target)
            part = block.input_gradient(factors[index].as_in_context(block.context), *places)
            parts[block.context] = parts[block.context] + part if block.context in parts else part
        return mx.nd.add_n(*[part.as_in_context(self._home) for part in parts.values()])

    def _put(self, context: Context, labelled: Labelled, values: NDArray) -> tuple[NDArray | None, NDArray | None]:
        """Return where in a block's samples x chosen classes the labelled ones are, and their values."""
        if not len(labelled.samples):
            return None, None
        places = labelled.samples * labelled.chosen + labelled.places
        samples = mx.nd.array(labelled.samples, ctx=self._home, dtype="int32")
        return mx.nd.array(places, ctx=context, dtype="int32"), mx.nd.take(values, samples).as_in_context(context)

    def _further(self, context: Context, labelled: Labelled) -> Further | None:
        """Return what the inter loss adds to the gradient by the unit class weights of a block."""
        if OF_CLASSES not in self._gradients:
            return None
        samples = self._gradients[TARGET].size
        by_class, by_sample = self._gradients[OF_CLASSES] / self._chosen, self._gradients[OF_SAMPLES] / samples
        counts = mx.nd.array(labelled.counts(), ctx=context)
        return Further(by_class.as_in_context(context), by_sample.as_in_context(context), counts)


def class_indices(labels: NDArray) -> np.ndarray:
    """Return a batch's labels as whole numbers."""
    return labels.asnumpy().astype(np.int64)


def _rows(source: Source, names: Iterable[str], classes: range, context: Context) -> Arrays:
    """Copy rows of arrays of all classes to a context."""
    return {name: _to(source[name][classes.start : classes.stop], context) for name in names}


def _to(rows: Any, context: Context) -> NDArray:
    values = rows.asnumpy() if isinstance(rows, mx.nd.NDArray) else np.asarray(rows)
    return mx.nd.array(values, ctx=context, dtype="float32")
