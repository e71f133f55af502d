"""Read pickles from others without running anything, and the errors that damaged files raise.

A pickle is a program. It may have the operations that plain values, lists, dicts and calls of an allow-list need, and
none of these makes more than a few bytes that the file does not hold.
"""

from __future__ import annotations

import functools
import os
import pickle
import struct
import zipfile
from typing import Any, BinaryIO, Callable, Mapping

from insightface_mx.base.errors import shorten
from insightface_mx.base.limits import MAX_MARKS, MAX_OPERATIONS, MAX_PICKLE_DIGITS

# What unpicklers, numpy, zipfile, lz4 and Pillow raise for damaged data; MemoryError for a length that no memory holds.
DAMAGE = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    struct.error,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    StopIteration,
    SyntaxError,
    TypeError,
    ValueError,
)


def load(file: BinaryIO, allowed: Mapping[str, Callable[..., object]], encoding: str = "ASCII") -> object:
    """Unpickle plain values, and the names of an allow-list.

    Args:
        file: The pickle.
        allowed: What to call for a name 'module.name', with the arguments that the pickle has for it. For names from
            numpy._core write numpy.core.
        encoding: Of the byte strings of Python 2; 'bytes' leaves them as they are.

    Returns:
        What the pickle describes.

    Raises:
        pickle.UnpicklingError: The pickle names something else; nothing was run.
        Exception: One of `DAMAGE` where the pickle is damaged.
    """
    return _Unpickler(file, allowed, encoding).load()


Load = Callable[[Any], None]  # does what an operation says; its argument is the unpickler


class _StandIn:
    """What a pickle gets for a name: it can be called, but not changed, whatever state the pickle has for it."""

    def __init__(self, make: Callable[..., object]) -> None:
        self._make = make

    def __call__(self, *arguments: object) -> object:
        return self._make(*arguments)

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("it changes something that it names")


class _BoundedFile:
    """Reads a file, but never more at once than it holds: a length in it may claim gigabytes."""

    def __init__(self, file: BinaryIO) -> None:
        start = file.tell()
        self._size = file.seek(0, os.SEEK_END) - start
        file.seek(start)
        self._file, self.readline = file, file.readline

    def read(self, length: int) -> bytes:
        if not 0 <= length <= self._size:
            raise EOFError
        return self._file.read(length)


class _Operations:
    """Counts the operations of a pickle and refuses those that are not in the table below."""

    def __init__(self) -> None:
        self._left = MAX_OPERATIONS

    def __getitem__(self, code: int) -> Load:
        self._left -= 1
        if self._left < 0:
            raise pickle.UnpicklingError(f"it has more than {MAX_OPERATIONS} operations")
        if code not in _OPERATIONS:
            raise pickle.UnpicklingError(f"it has the operation {bytes([code])!r}, which plain values do not need")
        return _OPERATIONS[code]


class _Unpickler(pickle._Unpickler):
    """The base class is written in Python: the one in C allocates gigabytes for a few hostile bytes."""

    stack: list[Any]  # of the base class, like those that follow
    metastack: list[list[Any]]
    append: Callable[[object], None]
    read: Callable[[int], bytes]
    readline: Callable[[], bytes]

    def __init__(self, file: BinaryIO, allowed: Mapping[str, Callable[..., object]], encoding: str) -> None:
        super().__init__(_BoundedFile(file), encoding=encoding)
        self._allowed = allowed
        self.dispatch = _Operations()  # type: ignore[assignment, misc]  # the loop of the base class indexes it

    def find_class(self, module: str, name: str) -> _StandIn:
        """Return what stands in for a name. Raises UnpicklingError for names that are not allowed."""
        full_name = f"{module}.{name}".replace("numpy._core.", "numpy.core.")
        if full_name not in self._allowed:
            named = shorten(f"{module}.{name}")
            raise pickle.UnpicklingError(f"it names {named}, which could run code; nothing was run")
        return _StandIn(self._allowed[full_name])


def _load_mark(load: Load, self: _Unpickler) -> None:
    """Begin a tuple, list or dict."""
    if len(self.metastack) >= MAX_MARKS:
        raise pickle.UnpicklingError("its values are nested too deeply")
    load(self)


def _load_number(load: Load, self: _Unpickler) -> None:
    """Read a number that is written in digits, whose time grows with the square of their number."""
    readline, line = self.readline, self.readline()
    if len(line) > MAX_PICKLE_DIGITS:
        raise pickle.UnpicklingError(f"it has a number of {len(line)} digits")
    self.readline = lambda: line
    load(self)
    self.readline = readline


def _load_item(load: Load, self: _Unpickler) -> None:
    """Set an item of a dict by a plain key: to hash nested tuples may end the process."""
    _check_keys(self.stack[-2:-1])
    load(self)


def _load_items(load: Load, self: _Unpickler) -> None:
    """Set items of a dict, likewise."""
    _check_keys(self.stack[::2])
    load(self)


def _check_keys(keys: list[object]) -> None:
    if not all(isinstance(key, (str, bytes, int)) for key in keys):
        raise pickle.UnpicklingError("it has a dict whose keys are no names or numbers")


def _load_bytearray(self: _Unpickler) -> None:
    """Read bytes instead of a bytearray, which the base class allocates before it knows that they are there."""
    self.append(self.read(struct.unpack("<Q", self.read(8))[0]))


def _load_newobj(self: _Unpickler) -> None:
    """Call what stands in for a class, in place of its __new__."""
    arguments, make = self.stack.pop(), self.stack.pop()
    self.append(make(*arguments))


_AS_THEY_ARE = (
    "PROTO FRAME STOP NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT STRING BINSTRING SHORT_BINSTRING "
    "BINBYTES SHORT_BINBYTES BINBYTES8 UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 "
    "TUPLE3 EMPTY_LIST LIST APPEND APPENDS EMPTY_DICT GLOBAL STACK_GLOBAL REDUCE BUILD BINGET LONG_BINGET BINPUT "
    "LONG_BINPUT MEMOIZE"
)
_CHECKED: dict[str, Callable[[Load, _Unpickler], None]] = {
    "MARK": _load_mark,
    "INT LONG FLOAT GET PUT": _load_number,
    "SETITEM": _load_item,
    "SETITEMS DICT": _load_items,
}
_REPLACED: dict[str, Load] = {"BYTEARRAY8": _load_bytearray, "NEWOBJ": _load_newobj}


def _operations() -> dict[int, Load]:
    """Return what to do for the byte of each operation that a pickle may have."""
    codes: dict[str, int] = {name: getattr(pickle, name)[0] for name in (*_AS_THEY_ARE.split(), *_REPLACED)}
    loads: dict[int, Load] = {code: pickle._Unpickler.dispatch[code] for code in codes.values()}
    loads.update({codes[name]: load for name, load in _REPLACED.items()})
    for names, check in _CHECKED.items():
        for code in (getattr(pickle, name)[0] for name in names.split()):
            loads[code] = functools.partial(check, pickle._Unpickler.dispatch[code])
    return loads


_OPERATIONS = _operations()
