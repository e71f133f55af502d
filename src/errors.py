"""What a command says when it cannot go on: exit status 2 and a line or two, never a traceback."""

import contextlib
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
