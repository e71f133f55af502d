"""The learning rate over a run."""

from insightface_mx.compat import mx
from insightface_mx.errors import UserError

MARGIN_STEPS = (100000, 140000, 160000)  # at a batch of 512
SOFTMAX_STEPS = (40000, 60000, 80000)


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


def scheduler(lr, steps):
    """An MXNet scheduler that divides `lr` by 10 after each of `steps` batches."""
    return mx.lr_scheduler.MultiFactorScheduler(step=steps, factor=0.1, base_lr=lr)
