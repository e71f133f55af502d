"""The options every network may be asked for, and the errors that say what exists."""

import functools
import inspect

DEFAULTS = {
    "version_se": 0,
    "version_input": 1,
    "version_output": "E",
    "version_unit": 3,
    "version_act": "prelu",
    "version_multiplier": 1.0,
    "bn_mom": 0.9,
}


def pick(option, value, choices):
    """Return choices[value]; where there is none, raise a ValueError that lists the values there are."""
    if value not in choices:
        raise ValueError(f"{option} {value!r} does not exist: choose from {', '.join(map(str, choices))}")
    return choices[value]


def family(get_symbol):
    """Let a network builder be called with any option of DEFAULTS, whether its network has a use for it or not.

    The keywords in the builder's signature are the options it uses. Another option is accepted at its default only:
    any other value raises a ValueError, for it would change nothing.
    """
    used = inspect.signature(get_symbol).parameters

    @functools.wraps(get_symbol)
    def checked(*args, **options):
        for option, default in DEFAULTS.items():
            if option not in used and options.pop(option, default) != default:
                network = get_symbol.__module__.rpartition(".")[2]
                takes = ", ".join(name for name in DEFAULTS if name in used) or "none"
                raise ValueError(f"{network} has no use for {option}: leave it at {default!r} (it takes: {takes})")
        return get_symbol(*args, **options)

    return checked
