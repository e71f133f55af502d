"""A Module that trains a network whose class weights are in shards; MXNet's Module with the same methods."""

from __future__ import annotations

import math
from typing import Any, Callable, Mapping, Sequence

from insightface_mx.base import limits
from insightface_mx.base.compat import Context, MXNet, NDArray, Params, Symbol, mx
from insightface_mx.formats.params_file import Shape
from insightface_mx.shards.head import ShardedHead, class_indices

Initializer = Callable[[Any, NDArray], None]


class ShardedModule(mx.mod.Module):
    """Trains the body of a `plan.SplitLoss`, and the class weights in its `head`.

    Outputs of a batch: the embeddings; for each sample 1 where its class has the largest logit; its cross-entropy.

    Attributes:
        head: The class weights.
    """

    def __init__(self, body: Symbol, head: ShardedHead, contexts: list[Context], frozen: Sequence[str] = ()) -> None:
        """Put a network and class weights together.

        Args:
            body: The graph of the network, as in `plan.SplitLoss`.
            head: The class weights.
            contexts: Where the network is trained.
            frozen: Parameters that are not trained, of the network and of the head.
        """
        fixed = [name for name in frozen if name not in head.shapes]
        super().__init__(body, label_names=None, context=contexts, fixed_param_names=fixed)
        self.head = head
        self._number_of_contexts = len(contexts)
        self._optimizer_of_head: MXNet = None

    def init_params(
        self,
        initializer: Initializer | None = None,
        arg_params: Mapping[str, Any] | None = None,
        aux_params: Params | None = None,
        **options: Any,
    ) -> None:
        """Set the parameters; those of the class weights may be numpy arrays.

        Random class weights are those that a Module with the whole graph would draw: they are drawn between the other
        parameters, in the order of the names.
        """
        given = arg_params or {}
        source = {name: given[name] for name in self.head.shapes if name in given}
        missing = [name for name in self.head.shapes if name not in source]

        def in_order(name: Any, array: NDArray) -> None:
            assert initializer is not None
            if missing and str(name) > missing[0]:
                self._draw(initializer, missing, source)
            initializer(name, array)

        super().init_params(in_order if initializer else None, arg_params, aux_params, **options)
        if initializer:
            self._draw(initializer, missing, source)
        self.head.set_params(source)

    def _draw(self, initializer: Initializer, missing: list[str], source: dict[str, Any]) -> None:
        """Draw missing class weights into the source, by name."""
        while missing:
            name = missing.pop(0)
            shape = self.head.shapes[name]
            description = mx.init.InitDesc(name, self.head.attributes.get(name))
            if math.prod(shape) > limits.MAX_ARRAY:
                source[name] = _DrawnByBlocks(initializer, description, shape)
                continue
            source[name] = mx.nd.zeros(shape)
            initializer(description, source[name])

    def forward_backward(self, data_batch: MXNet) -> None:
        """Compute outputs and gradients of a batch."""
        self.forward(data_batch, is_train=True)
        embedding, *inputs = super().get_outputs()
        gradients = self.head.forward_backward(inputs, class_indices(data_batch.label[0]))
        scale = self._number_of_contexts  # by which the optimizer divides the sum over the contexts
        self.backward([mx.nd.zeros_like(embedding), *(gradient * scale for gradient in gradients)])

    def get_outputs(self, _merge_multi_context: bool = True) -> list[NDArray]:
        """Return the outputs of the last batch, over all contexts; see the class."""
        return [super().get_outputs()[0], *self.head.outputs]

    def init_optimizer(self, *args: Any, **options: Any) -> None:
        """Attach an optimizer, an object; the class weights' multipliers are added to its own."""
        super().init_optimizer(*args, **options)
        optimizer = options["optimizer"]
        for name, of in self.head.attributes.items():
            optimizer.lr_mult[name], optimizer.wd_mult[name] = float(of["__lr_mult__"]), float(of["__wd_mult__"])
        self._optimizer_of_head = optimizer
        self.head.restore_momenta({})

    def update(self) -> None:
        """Update all parameters by the gradients of the last batch."""
        super().update()
        self.head.update(self._optimizer_of_head)

    def get_params(self) -> tuple[dict[str, Any], Params]:
        """Return the parameters, class weights as `Rows`, and the moving averages.

        Class weights that no array of MXNet can hold are left out: no checkpoint can have them.
        """
        arg_params, aux_params = super().get_params()
        return {**arg_params, **(self.head.params() if self.head.fits_in_checkpoint else {})}, aux_params

    def set_states(self, states: Any = None, value: float | None = None) -> None:
        """Set SphereFace's beta, the only state."""
        assert states is None and value is not None
        self.head.set_beta(value)


class _DrawnByBlocks:
    """Random class weights that are drawn when their rows are taken, because they are too many for one array."""

    def __init__(self, initializer: Any, description: str, shape: Shape) -> None:
        """Take an mx.init.Xavier, what it is to draw, and the shape of all class weights."""
        self._initializer, self._description, self._shape = initializer, description, shape

    def __getitem__(self, classes: slice) -> NDArray:
        """Draw the rows of a block, with the standard deviation that the whole array would have."""
        array = mx.nd.zeros((classes.stop - classes.start, *self._shape[1:]))
        self._initializer(self._description, array)
        return array * math.sqrt(self._fans(array.shape) / self._fans(self._shape))

    def _fans(self, shape: Shape) -> float:
        """Return what Xavier's variance is divided by."""
        classes, length = shape
        return {"in": length, "out": classes, "avg": (classes + length) / 2}[self._initializer.factor_type]
