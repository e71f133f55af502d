"""The argument parser of every command: an error is one line and does not repeat the usage of fifty options."""

from __future__ import annotations

import argparse
import sys
from typing import Any, NoReturn

from insightface_mx.base.errors import printable, shorten
from insightface_mx.base.limits import MAX_MESSAGE
from insightface_mx.cli.streams import OutputLost, discard, write_error

USER_ERROR = 2  # exit status


class CommandParser(argparse.ArgumentParser):
    """An ArgumentParser with short errors."""

    def _print_message(self, message: str, file: Any = None) -> None:
        """Print help, a version or an error. Raises OutputLost, where the base class says nothing."""
        if file is None or file is not sys.stdout:
            write_error(message.rstrip("\n"))
            return
        try:
            file.write(message)
            file.flush()
        except OSError as error:
            discard(file)
            raise OutputLost(error) from error

    def error(self, message: str) -> NoReturn:
        """Print the error and where to look, and end the process with status 2."""
        line = printable(shorten(message, MAX_MESSAGE))  # it may repeat a word of any length
        self.exit(USER_ERROR, f"error: {line} (see {self.prog} --help)\n")
