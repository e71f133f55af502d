"""No silent NaN: outputs and gradients of every batch are looked at before they reach the parameters."""

import logging

import numpy as np

from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError
from insightface_mx.engine.module_state import executors, moving_averages

STOP, SKIP, REWIND = POLICIES = ("stop", "skip", "rewind")  # --on-nan
_ATTEMPTS = 10  # bad batches with nothing good after the last of them
_AT_ONCE = 100  # arrays; MXNet's operator crashes on more than 200
_SHOWN = 3


class NanGuard:
    """Takes a Module through a batch, and rejects it where outputs or gradients are not finite, as --on-nan says.

    module: the bound Module. run: the Run that trains it. policy: one of POLICIES. The moving averages, which a forward
    pass changes by itself, are those before the batch where it is skipped.
    """

    def __init__(self, module, run, policy):
        self._module, self._run, self._policy = module, run, policy
        self._bad, self._last_bad = 0, 0
        self._averages = None

    def forward_backward(self, batch):
        """Outputs and gradients of a batch."""
        if self._policy == SKIP:
            self._averages = [array.asnumpy() for array in moving_averages(self._module)]
        self._module.forward_backward(batch)

    def rejects(self, batch):
        """Whether `batch`, which went forward and backward, must not be used; everything is then as --on-nan says.

        Raises UserError, with the parameters as they were, where that is to stop or no longer helps.
        """
        problem, step = self._problem(), self._run.step
        if not problem:
            self._bad *= step <= self._last_bad
            return False
        logging.error("batch %d: %s; its records: %s", step, problem, ", ".join(map(str, batch.index)))
        self._bad, self._last_bad = self._bad + 1, max(step, self._last_bad)
        if self._policy == STOP or self._bad > _ATTEMPTS:
            raise UserError(self._message(step, problem, batch.index))
        if self._policy == SKIP:
            self._restore_averages()
            logging.info("batch %d is skipped", step)
        else:
            self._run.rewind()
        return True

    def _problem(self):
        """What is NaN or infinite, in words; '' if nothing is."""
        names = []
        for executor in executors(self._module):
            gradients = {
                f"gradient of {name}": array for name, array in executor.grad_dict.items() if array is not None
            }
            names += _not_finite({**executor.output_dict, **gradients})
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        return f"NaN or infinity in {', '.join(names[:_SHOWN])}{more}" if names else ""

    def _message(self, step, problem, records):
        shown = ", ".join(map(str, records[:_SHOWN]))
        again = f", the {self._bad}th time without progress" if self._bad > 1 else ""
        return (
            f"batch {step} (records {shown}, ...; all are in the log): {problem}{again}. Its update was not made; "
            f"{self._run.way_back}. Try --on-nan skip, or with --override a lower --lr or --clip-gradient"
        )

    def _restore_averages(self):
        for array, before in zip(moving_averages(self._module), self._averages):
            array[:] = before


def _not_finite(arrays):
    """The names, in a dict name -> NDArray on one device, of those that hold NaN or infinity."""
    on_cpu = all(array.context.device_type == "cpu" for array in arrays.values())
    return (_by_numpy if on_cpu else _by_operator)(arrays)


def _by_numpy(arrays):
    return [name for name, array in arrays.items() if not _finite(array.asnumpy())]


def _by_operator(arrays):
    """Without moving the arrays from their device."""
    names, bad = list(arrays), []
    for start in range(0, len(names), _AT_ONCE):
        part = names[start : start + _AT_ONCE]
        if not _all_finite([arrays[name] for name in part]):
            bad += [name for name in part if not _all_finite([arrays[name]])]
    return bad


def _finite(array):
    """Whether a numpy array is finite; its sum tells that in half the time, unless that overflows."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(array.sum()) or np.isfinite(array).all())


def _all_finite(arrays):
    return bool(mx.nd.multi_all_finite(*arrays, num_arrays=len(arrays)).asscalar())
