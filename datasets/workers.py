"""Work for all processors in processes that never outlive the command."""

import contextlib
import multiprocessing
import os
import signal
import threading
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing.connection import wait as wait_for

import cv2

from insightface_mx.base.errors import UserError

_AHEAD = 2  # tasks submitted for each worker, so that the list of all is never in memory twice


def unordered(function, tasks, workers):
    """Yield the results of function(*task) as they come, from `workers` processes; one works in this process.

    Raises UserError when a worker was killed.
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


def _result(future):
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process was killed, for lack of memory perhaps: run the command again to go on, with fewer "
            "--workers"
        ) from error


@contextlib.contextmanager
def _one_thread_each():
    """Let processes that start now use one thread for MXNet, unless the user has said how many."""
    unset = "OMP_NUM_THREADS" not in os.environ
    if unset:
        os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if unset:
            del os.environ["OMP_NUM_THREADS"]


def _begin():
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, who lets tasks end
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent():
    wait_for([multiprocessing.parent_process().sentinel])
    os._exit(1)
