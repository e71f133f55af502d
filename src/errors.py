"""The error of everything that a user can correct, for programs to catch; see base/errors.py."""

from insightface_mx.base.errors import UserError, exit_on_user_error, require

__all__ = ["UserError", "exit_on_user_error", "require"]
