"""Errors that a user can correct: a message of one or two lines, never a traceback."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from typing import Iterator


class UserError(Exception):
    """A problem that the user can correct; the message names the file, record or option and says what to do."""


@contextlib.contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Turn a UserError into its message on standard error and exit status 2."""
    try:
        yield
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from None


def require(extra: str, *packages: str) -> None:
    """Check that optional packages are installed.

    Args:
        extra: The extra of insightface-mx that brings them.
        packages: Import names.

    Raises:
        UserError: One of them is missing; the message gives the pip command.
    """
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise UserError(f"{' and '.join(missing)} must be installed for this: pip install 'insightface-mx[{extra}]'")
