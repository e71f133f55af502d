"""Errors that a user can correct: a message of one or two lines, never a traceback."""

from __future__ import annotations

import importlib.util
import re

from insightface_mx.base.limits import MAX_LINES, MAX_NAME, MAX_WORD

# Control characters, line separators, changes of the writing direction, and the bytes of names that are not UTF-8.
_UNPRINTABLE = r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
_OUTSIDE_LINES = re.compile(r"(?![\n\t])" + _UNPRINTABLE)
_ANYWHERE = re.compile(_UNPRINTABLE)
_LONG_WORD = re.compile(rf"\S{{{MAX_WORD + 1},}}")


class UserError(Exception):
    """A problem that the user can correct; the message names the file, record or option and says what to do."""


def require(extra: str, *packages: str) -> None:
    """Check that optional packages are installed.

    Args:
        extra: The extra of insightface-mx that brings them.
        packages: Import names.

    Raises:
        UserError: One of them is missing; the message gives the pip command.
    """
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise UserError(f"{' and '.join(missing)} must be installed for this: {pip_command(extra)}")


def pip_command(extra: str) -> str:
    """Return the command that installs an extra of this package."""
    return f"pip install '.[{extra}]' in the folder of the clone (with a wheel: its file name in place of the dot)"


def shorten(text: object, longest: int = MAX_NAME) -> str:
    r"""Return a text from a file as a message can show it: on one line, cut in the middle where it is too long.

    Args:
        text: A name or value that somebody else chose; anything but a str or bytes is written as by `str`.
        longest: Characters of the result.

    Returns:
        The text with control characters and the like escaped, as in repr: a line break is written \n.
    """
    text = text.decode("utf-8", "surrogateescape") if isinstance(text, bytes) else str(text)
    return _cut(_ANYWHERE.sub(_escaped, _cut(text, 4 * longest)), longest)


def printable(lines: str, longest: int = MAX_LINES) -> str:
    """Return lines as a terminal can show them: control characters are escaped, megabytes of a name are cut.

    Args:
        lines: A message, a table or the like; its line breaks and tabs stay.
        longest: Characters of the result, before it is escaped.
    """
    short = _LONG_WORD.sub(lambda word: _cut(word.group(), MAX_WORD), _cut(lines, longest))
    return _OUTSIDE_LINES.sub(_escaped, short)


def _cut(text: str, longest: int) -> str:
    """Leave out the middle of a text that is longer than `longest` characters."""
    if len(text) <= longest:
        return text
    end = longest // 4
    return f"{text[: longest - end - 3]}...{text[-end:]}"


def _escaped(character: re.Match[str]) -> str:
    return character.group().encode("unicode_escape").decode("ascii")
