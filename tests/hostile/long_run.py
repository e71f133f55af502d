"""Train 1,000 steps of a tiny network and embed 5,000 images, and compare memory, descriptors and threads. By hand.

    cd tests && PYTHONPATH=../build/tree:. python -m hostile.long_run
    cd tests && PYTHONPATH=../build/tree:. python -m hostile.long_run --steps 100 --images 500

Prints what the process holds after three tenths of each part, when caches and pools are full, and at its end. Exit
status 1: memory grew by more than MAX_GROWTH, or there are more descriptors or threads at the end.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import small_network
import small_training
from harness import IDENTITIES, PHOTOS, SIZE, photo

from insightface_mx import Embedder, train_softmax
from insightface_mx.formats.training_set import write_training_set

MAX_GROWTH = 16 << 20  # bytes: a leak of 20 KB a step would show
OPTIONS = (
    f"--verbose 50 --save-every 50 --ckpt 2 --keep 2 --per-batch-size 4 --image-size {SIZE},{SIZE} --emb-size 8 "
    "--seed 3 --color 1 --lr 0.001 --lr-steps 100000 --loss-type 4 --workers 2 --ctx cpu --end-epoch 100000"
).split()


class Held(NamedTuple):
    """What a process holds: resident memory in bytes, open descriptors, threads."""

    memory: int
    descriptors: int
    threads: int

    def __str__(self) -> str:
        return f"{self.memory / 1e6:.1f} MB, {self.descriptors} descriptors, {self.threads} threads"


def held() -> Held:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return Held(int(status["VmRSS"].split()[0]) << 10, len(os.listdir("/proc/self/fd")), int(status["Threads"]))


def train(folder: Path, steps: int) -> tuple[Held, Held]:
    """Train, and return what was held after three tenths of the steps and after the last one."""
    pictures = [[photo(identity, index) for index in range(PHOTOS)] for identity in range(IDENTITIES)]
    write_training_set(str(folder / "data"), pictures, (SIZE, SIZE))
    found: dict[int, Held] = {}

    def test(step, arg_params, aux_params):
        found[step] = held()
        return small_training.score(step, arg_params, aux_params)

    argv = [*OPTIONS, "--data-dir", str(folder / "data"), "--prefix", str(folder / "m"), "--max-steps", str(steps)]
    with contextlib.redirect_stdout(io.StringIO()):
        train_softmax.main(argv, network=small_training.small_network, test=test)
    early = min(step for step in found if step >= 3 * steps // 10)
    return found[early], found[max(found)]


def embed(folder: Path, images: int, backend: str) -> tuple[Held, Held]:
    """Embed image files in groups of a tenth; return what was held after the third one and after the last one."""
    model = small_network.save(folder / "net")
    paths = [str(folder / f"{index}.jpg") for index in range(50)]
    for index, path in enumerate(paths):
        cv2.imwrite(path, np.random.RandomState(index).randint(0, 256, (112, 112, 3)).astype(np.uint8))
    embedder = Embedder(model, backend=backend)
    found = []
    for _ in range(10):
        names = (paths * (images // 500 + 1))[: images // 10]
        assert embedder.files(names).shape == (images // 10, small_network.LENGTH)
        found.append(held())
    return found[2], found[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--images", type=int, default=5000)
    args = parser.parse_args()
    grew = False
    with tempfile.TemporaryDirectory() as base:
        os.environ["XDG_CACHE_HOME"] = base
        parts = {f"{args.steps} steps": lambda: train(Path(base), args.steps)}
        for name in ("mxnet", "onnxruntime", "openvino"):
            parts[f"{args.images} images by {name}"] = lambda name=name: embed(Path(base), args.images, name)
        for title, run in parts.items():
            early, late = run()
            print(f"{title}: {early} early, {late} at the end", flush=True)
            grew |= late.memory > early.memory + MAX_GROWTH or late[1:] > early[1:]
    sys.exit(int(grew))


if __name__ == "__main__":
    main()
