"""Start a run: choose its devices, find the state to resume from, and set the seed, in this order."""

from __future__ import annotations

import logging
import random
import secrets
from typing import NamedTuple

import numpy as np

from insightface_mx.base.compat import Context, mx
from insightface_mx.engine.denormals import flush_in_threads
from insightface_mx.engine.devices import get_contexts
from insightface_mx.training import state as training_state
from insightface_mx.training.options import RunOptions
from insightface_mx.training.state import State


class Start(NamedTuple):
    """What a run starts with.

    Attributes:
        contexts: Its devices.
        saved: The state that it continues from, or None.
        seed: The seed that is really used.
    """

    contexts: list[Context]
    saved: State | None
    seed: int


def begin(options: RunOptions) -> Start:
    """Choose the devices of a run, find the state to resume from, and set the seed.

    The devices come first: MXNet's threads on a CPU keep the floating-point mode that they are started with. The saved
    state comes before the seed, because the seed may be stored in it.
    """
    contexts = get_contexts(options.ctx)
    flush_in_threads(contexts)
    saved = find_saved(options.prefix, bool(options.resume))
    seed = choose_seed(options.seed, saved)
    set_seed(seed)
    return Start(contexts, saved, seed)


def find_saved(prefix: str, resume: bool) -> State | None:
    """Return the state that --resume continues from, None to start from scratch.

    Without --resume, warn of the states of an earlier run, which the first save will replace.
    """
    if resume:
        saved = training_state.newest(prefix)
        if saved is None:
            logging.info("--resume: no training state under %s yet, starting from scratch", prefix)
        return saved
    if training_state.exists(prefix):
        logging.warning(
            "%s-state-*: states of an earlier run, which this run's first save replaces (see --resume)", prefix
        )
    return None


def choose_seed(seed: int | None, saved: State | None) -> int:
    """Return the seed of --seed, otherwise that of the saved run, otherwise a random one; log it."""
    if seed is None:
        seed = saved.metadata["seed"] if saved else secrets.randbelow(2**31)
    logging.info("seed %d", seed)
    return seed


def set_seed(seed: int) -> None:
    """Make every random number that is drawn from now on follow from a seed."""
    random.seed(seed)
    np.random.seed(seed)
    mx.random.seed(seed)
