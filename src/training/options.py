"""Options of every training run: the optimiser, and how the run saves, tests, resumes and ends."""

# no `from __future__ import annotations`: the types of the fields make the parser, on Python 3.8 too

import dataclasses
from typing import Optional

from insightface_mx.base.errors import UserError
from insightface_mx.cli.device import CTX_HELP
from insightface_mx.cli.fields import option
from insightface_mx.cli.types import AT_LEAST_ONE, NOT_NEGATIVE, Range

SCHEDULES = STEP, POLY, COSINE = ("step", "poly", "cosine")  # --lr-schedule
NAN_POLICIES = STOP, SKIP, REWIND = ("stop", "skip", "rewind")  # --on-nan
NEVER, BEST, EVERY_TEST, BEST_AS_ONE = range(4)  # --ckpt
DEFAULT_END_EPOCH = 100000  # the original's: no end, in practice
_MOMENTUM = Range("at least 0 and less than 1", lambda value: 0 <= value < 1)


@dataclasses.dataclass(frozen=True)
class OptimiserOptions:
    """SGD with momentum, and its learning rate over the run."""

    lr: float = option(0.1, "learning rate at the start", allowed=NOT_NEGATIVE)
    lr_batch: int = option(
        0,
        "total batch that --lr is meant for: the rate is lr x total batch / N (0: --lr as it is)",
        allowed=NOT_NEGATIVE,
        metavar="N",
    )
    lr_steps: str = option(
        "",
        "batch numbers, separated by commas, after which the learning rate is divided by 10 (default: "
        "100000,140000,160000, for softmax 40000,60000,80000, times 512/batch)",
    )
    lr_schedule: str = option(
        STEP,
        "step: as --lr-steps says; poly, cosine: fall to 0 at the last of --lr-steps, where the run ends",
        choices=SCHEDULES,
    )
    warmup: int = option(0, "batches over which the learning rate first rises to --lr", allowed=NOT_NEGATIVE)
    clip_gradient: float = option(
        0.0, "clip every element of the gradient to [-X, X] (0: off)", allowed=NOT_NEGATIVE, metavar="X"
    )
    wd: float = option(0.0005, "weight decay of every parameter", allowed=NOT_NEGATIVE)
    mom: float = option(0.9, "momentum", allowed=_MOMENTUM)


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """Where a run saves, how often it tests and saves, and when it ends.

    `ctx`, the device, comes from `cli.device.add_device_options` and not from a field of its own parser group.
    """

    prefix: str = option(
        "../model/model",
        "writes PREFIX-symbol.json, PREFIX-NNNN.params and .json, PREFIX-state-N.params and .json, PREFIX-config.json, "
        "PREFIX-report.html and .json, and PREFIX.log",
        may_change=True,
    )
    pretrained: str = option("", "checkpoint PREFIX,EPOCH to start from")
    freeze: str = option(
        "", "parameters not to train: shell patterns, separated by commas ('conv0*,stage1*')", metavar="PATTERNS"
    )
    ckpt: int = option(
        BEST,
        "0: never save anything; 1: save a checkpoint when the last target is at its best; 2: at every test; 3: as 1, "
        "always under number 1",
        choices=(NEVER, BEST, EVERY_TEST, BEST_AS_ONE),
        may_change=True,
    )
    verbose: int = option(
        2000,
        "batches between two tests, each of which may save a checkpoint",
        allowed=AT_LEAST_ONE,
        may_change=True,
    )
    keep: int = option(
        0,
        "remove the checkpoints of this run except the newest N and the best (0: remove none)",
        allowed=NOT_NEGATIVE,
        metavar="N",
        may_change=True,
    )
    save_every: int = option(
        1000,
        "save the training state for --resume every N batches, at the end, and on Ctrl-C or SIGTERM (0: not every N "
        "batches)",
        allowed=NOT_NEGATIVE,
        metavar="N",
        may_change=True,
    )
    resume: Optional[str] = option(
        None,
        "continue from the newest complete training state under --prefix, in the middle of an epoch; start from "
        "scratch where none was saved yet",
        parse=str,
        choices=("auto",),
        may_change=True,
        nargs="?",
        const="auto",
    )
    override: bool = option(False, "resume even where options contradict those of the saved run", may_change=True)
    on_nan: str = option(
        STOP,
        "NaN or infinity in the outputs or gradients of a batch; stop: end with status 2; skip: leave the batch out; "
        "rewind: return to the saved state and continue with the images in another order",
        choices=NAN_POLICIES,
        may_change=True,
    )
    max_steps: int = option(
        0, "stop, with a save, after this many batches (0: no limit)", allowed=NOT_NEGATIVE, may_change=True
    )
    end_epoch: int = option(DEFAULT_END_EPOCH, "number of epochs", allowed=NOT_NEGATIVE, may_change=True)
    no_cpu_rewrite: bool = option(False, "on a CPU, train the original graph instead of the one with a fast PReLU")
    seed: Optional[int] = option(
        None,
        "makes a run repeatable, on a CPU bit for bit (default: random, logged)",
        allowed=NOT_NEGATIVE,
        may_change=True,  # compared as the seed that was really used
    )
    dry_run: bool = option(
        False,
        "train five batches in memory, say what the run would do, how long it would take and where it ends, and write "
        "nothing",
        may_change=True,
    )
    tensorboard: str = option("", "folder to write TensorBoard event files to", metavar="DIR", may_change=True)
    ctx: str = option("", CTX_HELP, may_change=True, own_parser=True)


def check_run_options(options: RunOptions) -> None:
    """Check that options of a run do not exclude each other.

    Raises:
        UserError: Two of them do.
    """
    if options.on_nan == REWIND and options.ckpt == NEVER:
        raise UserError("--on-nan rewind goes back to a saved state, and --ckpt 0 saves none: change one of them")
