"""The argument parser of every command: an error is one line and does not repeat the usage of fifty options."""

from __future__ import annotations

import argparse
from typing import NoReturn

USER_ERROR = 2  # exit status


class CommandParser(argparse.ArgumentParser):
    """An ArgumentParser with short errors."""

    def error(self, message: str) -> NoReturn:
        """Print the error and where to look, and end the process with status 2."""
        self.exit(USER_ERROR, f"error: {message} (see {self.prog} --help)\n")
