"""Standard output and standard error that are closed, cut off (`| head`) or on a full disk."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TextIO

CUT_OFF, NOT_WRITTEN = 141, 2  # exit statuses: as of a program that SIGPIPE ends; as of any other full disk


class OutputLost(Exception):
    """A result cannot be written on standard output; `status` is how the command ends.

    The message is for the user; it is empty where the reader did not want more.
    """

    def __init__(self, error: OSError) -> None:
        is_cut_off = isinstance(error, BrokenPipeError)
        super().__init__("" if is_cut_off else f"cannot write on standard output: {error.strerror}. Is the disk full?")
        self.status = CUT_OFF if is_cut_off else NOT_WRITTEN


def open_missing() -> None:
    """Let standard streams that are closed lead nowhere, so that no file which is opened later takes their place."""
    while True:
        descriptor = os.open(os.devnull, os.O_RDWR)
        if descriptor > 2:
            os.close(descriptor)
            break
        os.set_inheritable(descriptor, True)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def discard(stream: TextIO) -> None:
    """Let everything lead nowhere that is written on a stream from now on, and what it could not yet write."""
    with contextlib.suppress(OSError, ValueError):  # a stream of a test has no descriptor
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, stream.fileno())
        os.close(descriptor)


def write_error(line: str) -> None:
    """Write a line on standard error, if that is possible."""
    try:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
    except OSError:
        discard(sys.stderr)


def flush(status: int) -> int:
    """Write what the standard streams still hold, and return the exit status: `status`, unless a result is lost."""
    try:
        sys.stdout.flush()
    except OSError as error:
        discard(sys.stdout)
        lost = OutputLost(error)
        if str(lost):
            write_error(f"error: {lost}")
        status = status or lost.status
    return status
