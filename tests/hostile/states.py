"""PREFIX-state-N.json and .params: what a training run saved to resume from."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Iterator

import small_training
from harness import IDENTITIES, PHOTOS, SIZE, photo
from hostile.checkpoints import deep, signed
from hostile.mutations import file_cases, with_file
from hostile.rule import EITHER, Case, Group

from insightface_mx import train_softmax
from insightface_mx.formats.training_set import write_training_set

OPTIONS = (
    f"--max-steps 3 --verbose 2 --ckpt 2 --per-batch-size 5 --image-size {SIZE},{SIZE} --emb-size 8 --seed 3 --lr 0.05 "
    "--lr-steps 5 --loss-type 1 --workers 1 --ctx cpu --resume"
).split()


def prepare_state(folder: Path) -> None:
    """Train three steps, so that there is a state to resume from."""
    pictures = [[photo(identity, index) for index in range(PHOTOS)] for identity in range(IDENTITIES)]
    write_training_set(str(folder / "data"), pictures, (SIZE, SIZE))
    train(folder)
    assert (folder / "m-state-1.json").is_file()


def train(folder: Path) -> None:
    """Train, or resume; nothing is left to do where the state is complete."""
    argv = [*OPTIONS, "--data-dir", str(folder / "data"), "--prefix", str(folder / "m")]
    with contextlib.redirect_stdout(io.StringIO()):
        train_softmax.main(argv, network=small_training.small_network, test=small_training.score)


def state_cases(good: Path) -> Iterator[Case]:
    yield from file_cases(good, "m-state-1.json", flips=20, cuts=5, words=3, expect_foreign=EITHER)
    yield from file_cases(good, "m-state-1.params", flips=20, cuts=5, words=20, odd=False)
    saved = json.loads((good / "m-state-1.json").read_text())
    for key in saved:
        for value in (None, -1, 2**70, 1.5, float("nan"), "x", [], {}, [1, 2], {"a": []}, True, deep(500)):
            if saved[key] != value:
                yield Case(
                    f"h30 signed, {key} is {str(value)[:12]}",
                    with_file(good, "m-state-1.json", signed({**saved, key: value})),
                )
        missing = {name: value for name, value in saved.items() if name != key}
        yield Case(f"h30 signed, no {key}", with_file(good, "m-state-1.json", signed(missing)))
    for place in ("[" * 100_000, "{" * 100_000, '{"a":' * 100_000, "9" * 100_000, "[" * 990 + "]" * 990):
        yield Case(f"h30 {place[:5]} deep {len(place)}", with_file(good, "m-state-1.json", place.encode()))


def resume(folder: Path) -> None:
    """Resume the training."""
    train(folder)


GROUPS = [Group("states", prepare_state, state_cases, resume)]
