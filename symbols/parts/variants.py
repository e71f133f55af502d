"""Check the options that every network accepts; errors list the choices."""

from __future__ import annotations

import functools
import inspect
from typing import Any, Callable, Mapping, TypeVar

from insightface_mx.base.compat import Symbol

Key = TypeVar("Key")
Value = TypeVar("Value")

DEFAULTS = {
    "version_se": 0,
    "version_input": 1,
    "version_output": "E",
    "version_unit": 3,
    "version_act": "prelu",
    "version_multiplier": 1.0,
    "version_blocks": "",
    "version_family": 2018,
    "densenet_dropout": 0.0,
    "bn_mom": 0.9,
}
DENSENET_BLOCKS = {  # of both DenseNets; depth: growth rate, and units in each of the four dense blocks
    121: (32, (6, 12, 24, 16)),
    161: (48, (6, 12, 36, 24)),
    169: (32, (6, 12, 32, 32)),
    201: (32, (6, 12, 48, 32)),
}


def choose(option: str, key: Key, choices: Mapping[Key, Value]) -> Value:
    """Return choices[key].

    Args:
        option: What the key is called in the error.
        key: The value of that option.
        choices: What there is.

    Raises:
        ValueError: The key is not among the choices; the message lists them.
    """
    if key not in choices:
        raise ValueError(f"{option} {key!r} does not exist: choose from {', '.join(map(str, choices))}")
    return choices[key]


def is_later(version_family: int) -> bool:
    """Return whether a version_family is that of the code of 2019 to 2021: yes for 2021, no for 2018."""
    return choose("version_family", version_family, {2018: False, 2021: True})


def activation_of(version_act: str, version_family: int) -> str:
    """Return the activation of a network that has only PReLU in the code of 2018.

    Raises:
        ValueError: Another activation with version_family 2018.
    """
    if not is_later(version_family) and version_act != DEFAULTS["version_act"]:
        raise ValueError(
            f"version_act {version_act!r} is of the code of 2021 in this network: set version_family to 2021 too, or "
            f"leave version_act at {DEFAULTS['version_act']!r}"
        )
    return version_act


def network_builder(get_symbol: Callable[..., Symbol]) -> Callable[..., Symbol]:
    """Let a function that builds a network accept every option of DEFAULTS.

    The function declares the options that it uses as its keywords. Any other option is accepted at its default only: at
    another value it would silently change nothing, so the decorated function raises ValueError.
    """
    used = inspect.signature(get_symbol).parameters

    @functools.wraps(get_symbol)
    def checked(*args: Any, **options: Any) -> Symbol:
        for option, default in DEFAULTS.items():
            if option not in used and options.pop(option, default) != default:
                network = get_symbol.__module__.rpartition(".")[2]
                takes = ", ".join(name for name in DEFAULTS if name in used) or "none"
                raise ValueError(f"{network} does not use {option}: leave it at {default!r} (it uses: {takes})")
        return get_symbol(*args, **options)

    return checked
