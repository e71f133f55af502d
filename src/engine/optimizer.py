"""Stochastic gradient descent with momentum, by the operators that are fast on a CPU."""

from __future__ import annotations

from typing import Any

from insightface_mx.base.compat import NDArray, mx


class SGD(mx.optimizer.SGD):
    """Update float32 weights as MXNet's SGD does, by its operators for one array.

    MXNet itself uses its operators for several arrays at once, which are slower on a CPU. The formula is the same, with
    g the gradient, wd the weight decay: m = momentum m - lr (g + wd w); w = w + m.
    """

    def __init__(self, **options: Any) -> None:
        """Take the options of mx.optimizer.SGD."""
        super().__init__(**options)
        self.aggregate_num = 0

    def update(self, index: int | str, weight: NDArray, grad: NDArray, state: NDArray | None) -> None:
        """Update a weight in place.

        Args:
            index: The parameter's key, under which MXNet counts its updates.
            weight: The parameter.
            grad: Its gradient.
            state: Its momentum m, or None; updated in place, too.
        """
        self._update_count(index)
        settings = {"lr": self._get_lr(index), "wd": self._get_wd(index), "rescale_grad": self.rescale_grad}
        if self.clip_gradient:
            settings["clip_gradient"] = self.clip_gradient
        if state is None:
            mx.nd.sgd_update(weight, grad, out=weight, **settings)
        else:
            mx.nd.sgd_mom_update(weight, grad, state, out=weight, momentum=self.momentum, **settings)

    update_multi_precision = update
