"""The learning rate over a run."""

import logging

from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError

MARGIN_STEPS = (100000, 140000, 160000)  # at a batch of 512
SOFTMAX_STEPS = (40000, 60000, 80000)
SCHEDULES = ("step", "poly", "cosine")  # --lr-schedule
_FAR = 10


def lr_steps(text, batch_size, loss_type):
    """Batch numbers after which the learning rate falls: those of --lr-steps, else the original's defaults.

    The defaults hold for batches of 512 images and are stretched by 512 / batch_size.
    """
    if not text:
        steps = MARGIN_STEPS if 1 <= loss_type <= 7 else SOFTMAX_STEPS
        return [int(step * 512.0 / batch_size) for step in steps]
    try:
        steps = [int(step) for step in text.split(",")]
    except ValueError:
        raise UserError(f"--lr-steps {text}: write batch numbers, for example 100000,140000,160000") from None
    if steps[0] < 1 or any(later <= earlier for earlier, later in zip(steps, steps[1:])):
        raise UserError(f"--lr-steps {text}: the batch numbers must be positive and rise")
    return steps


def scheduler(args, batch_size):
    """The MXNet scheduler of --lr-schedule, which first rises linearly over --warmup batches: batch number -> rate.

    batch_size: images over all devices. step: divided by 10 after each of lr_steps. poly and cosine: falling to 0 at
    the last of them as (1 - t)^2 or (1 + cos(pi t)) / 2, t going from 0 to 1 after the warm-up.
    """
    steps = lr_steps(args.lr_steps, batch_size, args.loss_type)
    if args.warmup >= steps[-1]:
        raise UserError(f"--warmup {args.warmup}: it must be less than the last of --lr-steps, {steps[-1]}")
    settings = {"base_lr": args.lr, "warmup_steps": args.warmup}
    if args.lr_schedule == "poly":
        return mx.lr_scheduler.PolyScheduler(steps[-1], **settings)
    if args.lr_schedule == "cosine":
        return mx.lr_scheduler.CosineScheduler(steps[-1], **settings)
    return mx.lr_scheduler.MultiFactorScheduler(steps, factor=0.1, **settings)


def last_batch(args, batch_size):
    """The batch at which --max-steps or a learning rate of 0 ends a run; None for neither."""
    limits = [args.max_steps] if args.max_steps else []
    if args.lr_schedule in ("poly", "cosine"):
        limits.append(lr_steps(args.lr_steps, batch_size, args.loss_type)[-1])
    return min(limits, default=None)


def warn_of_unusual_rate(args, batch_size):
    """Log a warning where --lr is over ten times the usual 0.1 x batch / 512 or, but for fine-tuning, under a tenth."""
    usual = 0.1 * batch_size / 512
    if args.lr > _FAR * usual or args.lr < usual / _FAR and not args.pretrained:
        logging.warning(
            "--lr %g is far from the usual 0.1 x batch / 512, which is %.2g for batches of %d: if the accuracy does "
            "not move, try that, and --warmup",
            args.lr,
            usual,
            batch_size,
        )
