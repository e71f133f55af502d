"""Build the networks, one family a file: `get_symbol("r50", 512)` builds one, `NAMES` lists them all.

MXNet loads when one of these names is first used, not when a command such as table.py imports the package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from insightface_mx.symbols.networks import NAMES, NETWORKS, Family, from_config, get_initializer, get_symbol

__all__ = ["NAMES", "NETWORKS", "Family", "from_config", "get_initializer", "get_symbol"]


def __getattr__(name: str) -> object:
    """Return one of the names of __all__, which are those of `networks`."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from insightface_mx.symbols import networks

    return getattr(networks, name)
