"""End commands by Ctrl-C (SIGINT) and SIGTERM: all of them at once, but training after its batch, with a save.

Python calls a signal's handler when the main thread is between two instructions, not while it waits inside MXNet. What
must be said or done at once is therefore the task of a thread: Python writes each signal's number to a pipe of its own.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Iterator, TypeVar

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
_REMINDER, _END = 2.0, 5.0  # seconds after which Interrupted is raised again, and after which the process ends
_DROPPED, _PAUSE = b"\0", 0.05  # what the pipe brings where Interrupted was dropped, and seconds
_SAME = 0.3  # seconds: what comes sooner is the same signal, sent to a process and to its group, as `timeout` does

Self = TypeVar("Self", bound="Watch")


class Interrupted(KeyboardInterrupt):
    """A signal came; `number` is which one."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def status_of(number: int) -> int:
    """Return the exit status of a command that a signal ended, as a shell has it: 130 for Ctrl-C, 143 for SIGTERM."""
    return 128 + number


def describe(number: int) -> str:
    """Name a signal as its sender does."""
    return _NAMES[signal.Signals(number)]


def stop_line(interrupt: KeyboardInterrupt) -> tuple[str, int]:
    """Return what a command says at the end that a signal brought, and its exit status."""
    number = getattr(interrupt, "number", signal.SIGINT)
    return f"stopped by {describe(number)}; no file is left half written", status_of(number)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Hold the signals back while the block runs; processes that start in it hold them back from their begin on."""
    came: list[int] = []
    in_main = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.signal(number, lambda n, _: came.append(n)) for number in SIGNALS if in_main}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for number, earlier in handlers.items():
            signal.signal(number, earlier)
        handler = handlers[signal.Signals(came[0])] if came else None
        if came and callable(handler):  # not by another signal, which would count as a second one
            handler(came[0], None)
        elif came:
            signal.raise_signal(came[0])


class Watch:
    """While the block runs, the first signal raises Interrupted in the main thread.

    It leaves the block as such, whatever exception it has become on its way. A second one ends the process as it is,
    and so do five seconds without an end. A signal that is ignored when the
    block begins, as for a job in a script's background, stays ignored; in another thread than the main one nothing
    happens.

    Attributes:
        signal: The first signal that came, or None.
    """

    _hears_all = False

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._raised, self._is_reminded, self._is_over = False, False, False
        self._echoes = 0  # signals of our own that the thread has not seen yet

    def __enter__(self: Self) -> Self:
        self._works = threading.current_thread() is threading.main_thread()
        if self._works:
            reading, self._writing = os.pipe()
            os.set_blocking(self._writing, False)
            threading.Thread(target=self._attend, args=(reading,), daemon=True).start()
            self._hook, sys.unraisablehook = sys.unraisablehook, self._unraisable
            self._print, sys.excepthook = sys.excepthook, self._uncaught
            self._wakeup = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
            heard = [n for n in SIGNALS if self._hears_all or signal.getsignal(n) is not signal.SIG_IGN]
            self._handlers = {number: signal.signal(number, self._handle) for number in heard}
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._works:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(self._wakeup)
            sys.unraisablehook, sys.excepthook = self._hook, self._print
            os.close(self._writing)  # this ends the thread
        if self._raised and self.signal is not None and kind is not None and issubclass(kind, Exception):
            raise Interrupted(self.signal) from None  # what else was raised follows from the signal

    def let_go(self) -> None:
        """End the process at a signal from now on, as it is and without a word: its work is done."""
        self._is_over = self.signal is None

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        """Do what the main thread does at a signal."""
        if self.signal is None:
            self.signal = signal.Signals(number)
        if not self._raised and not self._is_over:
            self._raised = True
            raise Interrupted(number)

    def _unraisable(self, problem: Any) -> None:
        """Raise Interrupted again where Python had to drop it: in the end of an object, or called from C."""
        if isinstance(problem.exc_value, Interrupted):
            os.write(self._writing, _DROPPED)
        else:
            self._hook(problem)

    def _uncaught(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        """Print an exception that is not caught, but not Interrupted: numpy does, where it is imported by C code."""
        if not isinstance(error, Interrupted):
            self._print(kind, error, trace)

    def _raise_again(self, number: int) -> None:
        time.sleep(_PAUSE)  # until the main thread has left the place where the exception was dropped
        self._raised = False
        self._echoes += 1  # which the pipe brings, too
        signal.pthread_kill(threading.main_thread().ident or 0, number)

    def _attend(self, reading: int) -> None:
        """Read the signals' numbers until the pipe is closed."""
        number, first = 0, 0.0  # of the first signal, and when it came
        while True:
            ready, _, _ = select.select([reading], [], [], self._press(number, time.monotonic() - first))
            if not ready:
                continue
            content = os.read(reading, 1)
            if not content:
                os.close(reading)
                return
            if content == _DROPPED:
                self._raise_again(number)
            if content[0] not in SIGNALS:
                continue
            if self._echoes:
                self._echoes -= 1
            elif self._is_over:
                os._exit(status_of(content[0]))
            elif not number:
                number, first = content[0], time.monotonic()
                self._at_once(number)
            elif time.monotonic() - first > _SAME:
                self._again(content[0])

    def _press(self, number: int, passed: float) -> float | None:
        """End a command that does not end by itself.

        Args:
            number: The first signal; 0 before it.
            passed: Seconds since then.

        Returns:
            Seconds until the next call, unless a signal comes; None: only then.
        """
        if not number:
            return None
        if passed >= _END:
            self._end_process(f"stopped by {describe(number)}, in the midst of its work", number)
        if passed < _REMINDER:
            return _REMINDER - passed
        if not self._is_reminded:  # a package has caught the exception, perhaps
            self._is_reminded = True
            self._raise_again(number)
        return _END - passed

    def _at_once(self, number: int) -> None:
        """Do what the thread does at the first signal."""

    def _again(self, number: int) -> None:
        """Do what the thread does at a later signal."""
        self._end_process(f"stopped by a second {describe(number)}", number)

    def _end_process(self, line: str, number: int) -> None:
        _write(line)
        os._exit(status_of(number))


class SaveFirst(Watch):
    """While the block runs, the first signal only sets `signal`: training looks at it after every batch, and saves.

    A second one gives up: it ends the process as it is. During a save it must come twice. Signals that were ignored
    are heard, too: training in a script's background can be asked to save.
    """

    _hears_all = True

    def __init__(self) -> None:
        super().__init__()
        self._is_saving, self._asked = False, False

    @contextlib.contextmanager
    def saving(self) -> Iterator[None]:
        """Tell that a save goes on while the block runs."""
        self._is_saving = True
        try:
            yield
        finally:
            self._is_saving = False

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal = signal.Signals(number)

    def _press(self, *_: object) -> float | None:
        return None

    def _at_once(self, number: int) -> None:
        what = "saving" if self._is_saving else "saving after this batch"
        _write(f"{describe(number)}: {what}; once more to give up")

    def _again(self, number: int) -> None:
        if self._is_saving and not self._asked:
            self._asked = True
            _write("saving, please wait; once more to give up what this save would hold")
        else:
            self._end_process(f"given up by a second {describe(number)}: what was saved before is untouched", number)


def _write(line: str) -> None:
    """Write a line on standard error, whatever the main thread is doing with it."""
    with contextlib.suppress(OSError):
        bar = os.isatty(2)  # a progress bar, perhaps: the line begins below it
        os.write(2, f"{chr(10) if bar else ''}{line}\n".encode())
