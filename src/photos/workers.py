"""Work for all CPUs, in processes that never outlive the command."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing.connection import wait as wait_for
from typing import Any, Callable, Iterable, Iterator, TypeVar

import cv2

from insightface_mx.base.errors import UserError

_AHEAD = 2  # tasks submitted for each worker, so that the list of all is never in memory twice

Result = TypeVar("Result")


def unordered(function: Callable[..., Result], tasks: Iterable[tuple[Any, ...]], workers: int) -> Iterator[Result]:
    """Yield the results of function(*task) as they come.

    Args:
        function: What to do; it, its arguments and its result can be pickled.
        tasks: Arguments of each call; read only as far as they are needed.
        workers: Number of processes; 1 works in this process.

    Raises:
        UserError: A worker was killed.
    """
    if workers == 1:
        yield from (function(*task) for task in tasks)
        return
    context = multiprocessing.get_context("spawn")  # a fork of a process with MXNet's threads may hang
    with _one_thread_each(), ProcessPoolExecutor(workers, context, _begin) as pool:
        tasks = iter(tasks)
        running = {pool.submit(function, *task) for task in islice(tasks, _AHEAD * workers)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            running.update(pool.submit(function, *task) for task in islice(tasks, len(done)))
            yield from map(_result, done)


def _result(future: Future[Result]) -> Result:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process was killed, perhaps for lack of memory: run the command again to continue, with fewer "
            "--workers"
        ) from error


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let processes that start now use one thread for MXNet, unless the user has set the number."""
    unset = "OMP_NUM_THREADS" not in os.environ
    if unset:
        os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if unset:
            del os.environ["OMP_NUM_THREADS"]


def _begin() -> None:
    """Prepare a worker process: one thread for OpenCV, and an end together with the parent's."""
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which lets tasks end
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        os._exit(1)
