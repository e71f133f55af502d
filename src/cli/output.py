"""Print next to a progress bar: results on standard output, notes and log lines on the stream of the command."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

from tqdm import tqdm


def say(line: str) -> None:
    """Print a result on standard output without tearing a progress bar."""
    tqdm.write(line, file=sys.stdout)
    sys.stdout.flush()


def note(line: str) -> None:
    """Print a line that is not a result on standard error, without tearing a progress bar."""
    tqdm.write(line, file=sys.stderr)


class Console(logging.Handler):
    """Writes log messages to standard output or standard error without tearing a progress bar.

    It looks the stream up for every message, so that a test or a caller may replace it.
    """

    def __init__(self, to_stderr: bool = False) -> None:
        super().__init__()
        self._to_stderr = to_stderr
        self.setFormatter(logging.Formatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Write one message."""
        stream: TextIO = sys.stderr if self._to_stderr else sys.stdout
        tqdm.write(self.format(record), file=stream)
        stream.flush()


def start_logging(*more: logging.Handler, to_stderr: bool = False) -> None:
    """Show log messages from INFO on.

    Args:
        more: Further handlers, a log file for example.
        to_stderr: Write to standard error, for commands whose standard output holds results.
    """
    logging.basicConfig(level=logging.INFO, handlers=[Console(to_stderr), *more], force=True)
