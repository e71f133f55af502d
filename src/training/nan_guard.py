"""Check outputs and gradients of every batch for NaN and infinity before they reach the parameters."""

from __future__ import annotations

import enum
import logging

import numpy as np

from insightface_mx.base.compat import Module, NDArray, Params, mx
from insightface_mx.base.errors import UserError
from insightface_mx.engine.module_state import moving_averages, outputs_and_gradients
from insightface_mx.training.batches import DataBatch
from insightface_mx.training.options import SKIP, STOP

_ATTEMPTS = 10  # consecutive bad batches without a new good one
_AT_ONCE = 100  # arrays; MXNet's operator crashes on more than 200
_SHOWN = 3  # names and record ids in a message


class Verdict(enum.Enum):
    """What to do about a batch that went forward and backward."""

    ACCEPT = "update the parameters"
    SKIP = "leave the batch out"
    REWIND = "return to the saved state"


class NanGuard:
    """Takes a Module through a batch and judges the result."""

    def __init__(self, module: Module, policy: str) -> None:
        """Guard a bound Module.

        Args:
            module: The Module in training.
            policy: STOP, SKIP or REWIND of `training.options`.
        """
        self._module, self._policy = module, policy
        self._bad, self._last_bad = 0, 0  # bad batches since the last progress; the furthest bad step
        self._averages: list[np.ndarray] = []

    def forward_backward(self, batch: DataBatch) -> None:
        """Compute outputs and gradients of a batch."""
        if self._policy == SKIP:
            self._averages = [array.asnumpy() for array in moving_averages(self._module)]
        self._module.forward_backward(batch)

    def judge(self, step: int, batch: DataBatch, resume_hint: str) -> Verdict:
        """Judge a batch that went forward and backward.

        The forward pass has changed the moving averages already: if the batch is to be skipped, they are set back.

        Args:
            step: Number of the batch, counted from 1.
            batch: The batch.
            resume_hint: How the user can continue, for the message.

        Raises:
            UserError: There is NaN or infinity, and the policy is to stop or no longer helps. The parameters are those
                before the batch.
        """
        problem = self._problem()
        if not problem:
            if step > self._last_bad:
                self._bad = 0
            return Verdict.ACCEPT
        logging.error("batch %d: %s; its records: %s", step, problem, ", ".join(map(str, batch.index)))
        self._bad, self._last_bad = self._bad + 1, max(step, self._last_bad)
        if self._policy == STOP or self._bad > _ATTEMPTS:
            shown = ", ".join(map(str, batch.index[:_SHOWN]))
            again = f", the {self._bad}th time without progress" if self._bad > 1 else ""
            raise UserError(
                f"batch {step} (records {shown}, ...; all are in the log): {problem}{again}. Its update was not made; "
                f"{resume_hint}. Try --on-nan skip, or with --override a lower --lr or --clip-gradient"
            )
        if self._policy == SKIP:
            for array, before in zip(moving_averages(self._module), self._averages):
                array[:] = before
            logging.info("batch %d is skipped", step)
            return Verdict.SKIP
        return Verdict.REWIND

    def _problem(self) -> str:
        """Name the outputs and gradients with NaN or infinity; '' if all are finite."""
        names: list[str] = []
        for arrays in outputs_and_gradients(self._module):
            names += not_finite(arrays)
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        return f"NaN or infinity in {', '.join(names[:_SHOWN])}{more}" if names else ""


def not_finite(arrays: Params) -> list[str]:
    """Return the names of the arrays, all on one device, with NaN or infinity."""
    if all(array.context.device_type == "cpu" for array in arrays.values()):
        return [name for name, array in arrays.items() if not _is_finite(array.asnumpy())]
    return not_finite_by_operator(arrays)


def not_finite_by_operator(arrays: Params) -> list[str]:
    """Return what `not_finite` does, without moving the arrays from their device."""
    names, bad = list(arrays), []
    for start in range(0, len(names), _AT_ONCE):
        part = names[start : start + _AT_ONCE]
        if not _all_finite([arrays[name] for name in part]):
            bad += [name for name in part if not _all_finite([arrays[name]])]
    return bad


def _is_finite(array: np.ndarray) -> bool:
    """Check an array by its sum, which takes half the time; elements are looked at if the sum overflows."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(array.sum()) or np.isfinite(array).all())


def _all_finite(arrays: list[NDArray]) -> bool:
    return bool(mx.nd.multi_all_finite(*arrays, num_arrays=len(arrays)).asscalar())
