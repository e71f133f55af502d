"""The data set that tests share: four synthetic identities, written by the project's own writers."""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path
from typing import Iterator

import pytest
from harness import IDENTITIES, PHOTOS, SIZE, photo

from insightface_mx.base.machine import cpu_count
from insightface_mx.formats.training_set import write_training_set
from insightface_mx.formats.verification_set import write_bin

# Ctrl-C is ignored in a script's background, and would be in every process that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

if "PYTEST_XDIST_WORKER_COUNT" in os.environ:  # tests run in several processes, which share the CPUs
    threads = max(1, cpu_count() // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a training folder with train.rec, train.idx, property and toy.bin (12 pairs)."""
    folder = tmp_path_factory.mktemp("data")
    identities = [[photo(identity, index) for index in range(PHOTOS)] for identity in range(IDENTITIES)]
    write_training_set(str(folder), identities, (SIZE, SIZE))
    same = [((identity, index), (identity, index + 1)) for identity in range(2) for index in range(3)]
    different = [((identity, index), (identity + 1, index)) for identity in range(2) for index in range(3)]
    images = [photo(*one) for pair in same + different for one in pair]
    write_bin(str(folder / "toy.bin"), images, [True] * len(same) + [False] * len(different))
    return folder


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """Take away the log handlers of runs in this process: each test has its own, and none writes to another's files."""
    root = logging.getLogger()
    level = root.level
    _remove_own_handlers(root)  # those of a fixture, too
    yield
    _remove_own_handlers(root)
    root.setLevel(level)


def _remove_own_handlers(root: logging.Logger) -> None:
    for handler in root.handlers[:]:
        if type(handler).__module__.startswith("insightface_mx"):
            root.removeHandler(handler)
            handler.close()
