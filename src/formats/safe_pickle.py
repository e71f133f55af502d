"""Read pickles from others without running anything, and the errors that damaged files raise."""

from __future__ import annotations

import pickle
import struct
import zipfile
from typing import Any, BinaryIO, Callable, ClassVar, Mapping

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


class _StandIn:
    """What a pickle gets for a name: it can be called, but not changed, whatever state the pickle has for it."""

    def __init__(self, make: Callable[..., object]) -> None:
        self._make = make

    def __call__(self, *arguments: object) -> object:
        return self._make(*arguments)

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("it changes something that it names")


class _Unpickler(pickle._Unpickler):
    """The base class is written in Python: the one in C allocates gigabytes for a few hostile bytes."""

    stack: list[Any]  # of the base class
    append: Callable[[object], None]

    def __init__(self, file: BinaryIO, allowed: Mapping[str, Callable[..., object]], encoding: str) -> None:
        super().__init__(file, encoding=encoding)
        self._allowed = allowed

    def find_class(self, module: str, name: str) -> _StandIn:
        """Return what stands in for a name. Raises UnpicklingError for names that are not allowed."""
        full_name = f"{module}.{name}".replace("numpy._core.", "numpy.core.")
        if full_name not in self._allowed:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which could run code; nothing was run")
        return _StandIn(self._allowed[full_name])

    def _load_newobj(self) -> None:
        """Call what stands in for a class, in place of its __new__."""
        arguments, make = self.stack.pop(), self.stack.pop()
        self.append(make(*arguments))

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **pickle._Unpickler.dispatch,
        pickle.NEWOBJ[0]: _load_newobj,
    }
