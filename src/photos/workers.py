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
from multiprocessing import resource_tracker
from multiprocessing.connection import wait as wait_for
from typing import Any, Callable, Iterable, Iterator, TypeVar

from insightface_mx.base.errors import UserError
from insightface_mx.cli.signals import SIGNALS, held_back

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
    with _one_thread_each(), _pool(workers) as pool:
        tasks = iter(tasks)
        running = {_submit(pool, function, task) for task in islice(tasks, _AHEAD * workers)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            running.update(_submit(pool, function, task) for task in islice(tasks, len(done)))
            yield from map(_result, done)


def apart(function: Callable[..., Result], *arguments: Any) -> Result:
    """Return function(*arguments), computed in a process of its own. UserError: that process was killed."""
    with _pool(1) as pool:
        return _result(_submit(pool, function, arguments))


@contextlib.contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Give a pool of processes. If the block ends by an exception, Ctrl-C for example, they end at once."""
    context = multiprocessing.get_context("spawn")  # a fork of a process with MXNet's threads may hang
    resource_tracker.ensure_running()  # which changes the signals that are held back: not later, in _submit
    others = set(multiprocessing.active_children())
    with ProcessPoolExecutor(workers, context, _begin) as pool:
        try:
            yield pool
        except BaseException:
            for process in set(multiprocessing.active_children()) - others:
                process.kill()
            raise


def _submit(pool: ProcessPoolExecutor, function: Callable[..., Result], task: tuple[Any, ...]) -> Future[Result]:
    """Submit a task, which may start a process.

    Meanwhile signals are held back: half a start would end in a traceback, and the process begins its life with the
    same signals held back, so that a Ctrl-C, which reaches all processes of a terminal, does not end its imports.
    """
    with held_back():
        return pool.submit(function, *task)


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
    """Let processes that start now use one thread for MXNet and OpenCV, unless the user has set the number."""
    unset = [name for name in ("OMP_NUM_THREADS", "OPENCV_FOR_THREADS_NUM") if name not in os.environ]
    os.environ.update(dict.fromkeys(unset, "1"))
    try:
        yield
    finally:
        for name in unset:
            del os.environ[name]


def _begin() -> None:
    """Prepare a worker process: let it end together with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends its workers
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        os._exit(1)
