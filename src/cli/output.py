"""Print next to a progress bar: results on standard output, notes and log lines on the stream of the command."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

from tqdm import tqdm

from insightface_mx.base.errors import printable
from insightface_mx.cli.streams import OutputLost, discard, write_error


def say(line: str) -> None:
    """Print a result on standard output without tearing a progress bar. Raises OutputLost."""
    try:
        tqdm.write(printable(line), file=sys.stdout)
        sys.stdout.flush()
    except OSError as error:
        discard(sys.stdout)
        raise OutputLost(error) from error


def note(line: str) -> None:
    """Print a line that is not a result on standard error, without tearing a progress bar."""
    try:
        tqdm.write(printable(line), file=sys.stderr)
    except OSError:
        discard(sys.stderr)


class LogFormatter(logging.Formatter):
    """Escapes control characters, which names from files may hold, in the lines of a log."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a message."""
        return printable(super().format(record))


class Console(logging.Handler):
    """Writes log messages to standard output or standard error without tearing a progress bar.

    It looks the stream up for every message, so that a test or a caller may replace it.
    """

    def __init__(self, to_stderr: bool = False) -> None:
        super().__init__()
        self._to_stderr, self._is_lost = to_stderr, False
        self.setFormatter(LogFormatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Write one message; one that cannot be written is the last one, with a warning elsewhere."""
        if self._is_lost:
            return
        stream: TextIO = sys.stderr if self._to_stderr else sys.stdout
        line = self.format(record)
        try:
            tqdm.write(line, file=stream)
            stream.flush()
        except OSError as error:
            discard(stream)
            self._is_lost = True
            name = "standard error" if self._to_stderr else "standard output"
            warning = f"{name} ends here: it cannot be written any more ({error.strerror}); the work goes on"
            logging.warning("%s", warning)  # in a log file
            write_error(warning)


def start_logging(*more: logging.Handler, to_stderr: bool = False) -> None:
    """Show log messages from INFO on.

    Args:
        more: Further handlers, a log file for example.
        to_stderr: Write to standard error, for commands whose standard output holds results.
    """
    logging.basicConfig(level=logging.INFO, handlers=[Console(to_stderr), *more], force=True)
