"""Errors that a user can correct: a message of one or two lines, never a traceback."""

from __future__ import annotations

import importlib.util


class UserError(Exception):
    """A problem that the user can correct; the message names the file, record or option and says what to do."""


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
