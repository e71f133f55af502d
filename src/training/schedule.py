"""The learning rate over a run: --lr-schedule, --lr-steps and --warmup."""

from __future__ import annotations

from typing import Sequence

from insightface_mx.base.compat import MXNet, mx
from insightface_mx.base.errors import UserError
from insightface_mx.training.advice import USUAL_BATCH
from insightface_mx.training.options import COSINE, POLY, OptimiserOptions

MARGIN_STEPS = (100000, 140000, 160000)  # the original's --lr-steps, at a batch of USUAL_BATCH images
SOFTMAX_STEPS = (40000, 60000, 80000)  # the same for plain softmax


def learning_rate(options: OptimiserOptions, batch_size: int) -> float:
    """Return the learning rate after the warm-up: --lr, scaled by batch_size / --lr-batch if that is given.

    Args:
        options: The rate, and the batch that it is meant for.
        batch_size: Images a batch, over all devices.
    """
    return options.lr * batch_size / options.lr_batch if options.lr_batch else options.lr


def lr_steps(text: str, batch_size: int, default: Sequence[int]) -> list[int]:
    """Return the batch numbers after which the learning rate falls.

    Args:
        text: The value of --lr-steps, '' for the default.
        batch_size: Images a batch, over all devices.
        default: Steps at a batch of 512 images; they are stretched by 512 / batch_size.

    Raises:
        UserError: The text is no list of positive, rising numbers.
    """
    if not text:
        return [int(step * float(USUAL_BATCH) / batch_size) for step in default]
    try:
        steps = [int(step) for step in text.split(",")]
    except ValueError:
        raise UserError(f"--lr-steps {text}: write batch numbers, for example 100000,140000,160000") from None
    if steps[0] < 1 or any(later <= earlier for earlier, later in zip(steps, steps[1:])):
        raise UserError(f"--lr-steps {text}: the batch numbers must be positive and rise")
    return steps


def default_steps(loss_type: int) -> tuple[int, ...]:
    """Return the original's steps for a --loss-type."""
    return SOFTMAX_STEPS if loss_type == 0 else MARGIN_STEPS


def scheduler(options: OptimiserOptions, lr: float, steps: Sequence[int]) -> MXNet:
    """Make the MXNet scheduler of --lr-schedule, a function from batch number to learning rate.

    The rate first rises linearly over --warmup batches. Then `step` divides it by 10 after each of `steps`; `poly` and
    `cosine` let it fall to 0 at the last of them as (1 - t)^2 or (1 + cos(pi t)) / 2, where t goes from 0 to 1.

    Args:
        options: The schedule and the warm-up.
        lr: The learning rate after the warm-up.
        steps: Batch numbers, as `lr_steps` returns them.

    Raises:
        UserError: The warm-up is longer than the run.
    """
    if options.warmup >= steps[-1]:
        raise UserError(f"--warmup {options.warmup}: it must be less than the last of --lr-steps, {steps[-1]}")
    settings = {"base_lr": lr, "warmup_steps": options.warmup}
    if options.lr_schedule == POLY:
        return mx.lr_scheduler.PolyScheduler(steps[-1], **settings)
    if options.lr_schedule == COSINE:
        return mx.lr_scheduler.CosineScheduler(steps[-1], **settings)
    return mx.lr_scheduler.MultiFactorScheduler(list(steps), factor=0.1, **settings)


def last_batch(options: OptimiserOptions, max_steps: int, steps: Sequence[int]) -> int | None:
    """Return the batch at which a run ends, by --max-steps or by a learning rate of 0; None for neither.

    Args:
        options: The schedule.
        max_steps: The value of --max-steps, 0 for no limit.
        steps: Batch numbers, as `lr_steps` returns them.
    """
    limits = [max_steps] if max_steps else []
    if options.lr_schedule in (POLY, COSINE):
        limits.append(steps[-1])
    return min(limits, default=None)
