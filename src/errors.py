"""The error of everything that a user can correct, for programs to catch; see base/errors.py."""

from insightface_mx.base.errors import UserError, require

__all__ = ["UserError", "require"]
