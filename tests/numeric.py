"""Numerical gradients, for the tests of losses."""

from __future__ import annotations

from typing import Callable

import numpy as np


def slope(function: Callable[[np.ndarray], float], x: np.ndarray, step: float = 1e-6) -> np.ndarray:
    """Return the gradient of a scalar function by central differences, of the shape of x."""
    gradient = np.empty_like(x)
    for place in np.ndindex(*x.shape):
        above, below = x.copy(), x.copy()
        above[place] += step
        below[place] -= step
        gradient[place] = (function(above) - function(below)) / (2 * step)
    return gradient
