"""Parse the values of options: each function takes the text of a command line and returns the value.

They are argparse's `type` functions, so that an option means the same in every command. For a wrong text they raise
ArgumentTypeError, or ValueError if it is no number at all.
"""

from __future__ import annotations

import argparse
import math
from typing import Callable, Tuple

Size = Tuple[int, int]  # height and width in pixels

USUAL_SIZE: Size = (112, 112)  # of images, where neither the user nor the model gives a size


def image_size(text: str) -> Size:
    """Parse 'HEIGHT,WIDTH' in pixels; spaces are allowed.

    Returns:
        Height and width, both above 0.
    """
    sides = [side.strip() for side in text.split(",")]
    if len(sides) != 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise argparse.ArgumentTypeError(f"'{text}' is not an image size: write height,width, for example 112,112")
    return int(sides[0]), int(sides[1])


def size_text(size: Size) -> str:
    """Return a size as `image_size` reads it: '112,96' for (112, 96)."""
    return f"{size[0]},{size[1]}"


def positive(text: str) -> int:
    """Parse a whole number above 0."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number above 0")
    return int(text)


def positive_list(text: str) -> list[int]:
    """Parse whole numbers above 0, separated by commas."""
    return [positive(part.strip()) for part in text.split(",")]


def not_negative(kind: Callable[[str], float]) -> Callable[[str], float]:
    """Make a parser of finite numbers that are 0 or more.

    Args:
        kind: int or float.
    """

    def parse(text: str) -> float:
        value = kind(text)
        if not (value >= 0 and math.isfinite(value)):
            raise argparse.ArgumentTypeError(f"{text} is not 0 or more")
        return value

    parse.__name__ = kind.__name__  # argparse names it if the text is no number at all
    return parse


def fraction(text: str) -> float:
    """Parse a number between 0 and 1, both excluded."""
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value
