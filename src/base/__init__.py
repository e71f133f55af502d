"""The two doors that every other module goes through: MXNet and Python versions (compat), user errors (errors)."""

__version__ = "0.1.0"
