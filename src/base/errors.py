"""What a command says when it cannot go on: exit status 2 and a line or two, never a traceback."""

import contextlib
import importlib.util
import sys


class UserError(Exception):
    """A problem that the user can mend; the message names the file, record or option and says what to do."""


@contextlib.contextmanager
def exit_on_user_error():
    """Turn a UserError into its message on standard error and exit status 2."""
    try:
        yield
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from None


def require(extra, *packages):
    """Raise UserError where one of the packages that the package's extra `extra` brings is not installed."""
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise UserError(f"{' and '.join(missing)} must be installed for this: pip install 'insightface-mx[{extra}]'")
