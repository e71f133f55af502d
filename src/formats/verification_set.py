"""NAME.bin, a verification set: a pickle of (list of 2n encoded images, list of n booleans).

A pickle can call anything it names, so a file is read with an unpickler that knows only what such files hold, and even
numpy's functions are stand-ins here: numpy's own trust the sizes and types that a file tells them.
"""

import pickle
import struct

from insightface_mx.base.errors import UserError
from insightface_mx.formats.atomic import atomic_path

# Python's unpickler raises all of these for damaged data, MemoryError for a length that no memory could hold.
_DAMAGE = (
    pickle.UnpicklingError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    TypeError,
    ValueError,
    struct.error,
)


def read_bin(path):
    """Read a verification set: a list of 2n encoded images (bytes) and a list of n booleans, pair i being 2i and 2i+1.

    Reads what Python 2 and 3 wrote with pickle protocols 0 to 4, images as byte strings or 1-d uint8 arrays. Raises
    UserError, having run nothing, for a file that names anything else, is damaged, or holds something else.
    """
    try:
        with open(path, "rb") as file:
            return _images_and_flags(_BinUnpickler(file, encoding="bytes").load())
    except OSError as error:
        raise UserError(f"cannot open {path}: {error.strerror}") from error
    except _DAMAGE as error:
        reason = error if isinstance(error, pickle.UnpicklingError) else "it is cut short or no pickle"
        raise UserError(f"{path} is damaged or is no verification set: {reason}. Get or build it again") from error


def write_bin(path, images, issame):
    """Write a verification set: 2n encoded images (bytes or uint8 arrays) and n flags; equal input gives equal files.

    Protocol 2 is the newest that Python 2 reads, and Python 3 writes bytes in it in a way that comes back as byte
    strings there: the file opens with pickle.load in both, with encoding='bytes' or without.
    """
    # Pickle writes an object once, however often it occurs: by value, not by chance, when equal images are one object.
    first_of = {}
    images = [first_of.setdefault(image, image) for image in map(bytes, images)]
    flags = [bool(flag) for flag in issame]
    if not flags or len(images) != 2 * len(flags):
        raise UserError(f"cannot write {path}: {len(images)} images for {len(flags)} pairs")
    try:
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            pickle.dump((images, flags), file, protocol=2)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def _images_and_flags(content):
    if not _is_list(content) or len(content) != 2 or not all(map(_is_list, content)):
        raise pickle.UnpicklingError("it does not hold two lists, images and flags")
    images, flags = content
    if not flags or len(images) != 2 * len(flags):
        raise pickle.UnpicklingError(f"it holds {len(images)} images for {len(flags)} pairs")
    return [_image(i, entry) for i, entry in enumerate(images)], [_flag(i, entry) for i, entry in enumerate(flags)]


def _is_list(value):
    return isinstance(value, (list, tuple))


def _image(number, entry):
    if isinstance(entry, _Array):
        return entry.content
    if not isinstance(entry, bytes):
        raise pickle.UnpicklingError(f"image {number} is of type {type(entry).__name__}, not bytes")
    return entry


def _flag(number, entry):
    if not isinstance(entry, int) or entry not in (0, 1):
        raise pickle.UnpicklingError(f"flag {number} is of type {type(entry).__name__}, not a boolean")
    return bool(entry)


class _BinUnpickler(pickle._Unpickler):
    """Unpickles plain values and the few names of `_STAND_INS`.

    The base class is pickle's implementation in Python: the one in C allocates gigabytes for a few hostile bytes, and
    a set's some ten thousand entries take the slower one a fraction of a second.
    """

    _STAND_INS = {
        "_codecs.encode": "_latin1",
        "numpy.core.multiarray._reconstruct": "_array",
        "numpy.core.multiarray.scalar": "_boolean",
        "numpy.dtype": "_dtype",
        "numpy.ndarray": "_array",
    }

    def find_class(self, module, name):
        full_name = f"{module}.{name}".replace("numpy._core.", "numpy.core.")
        if full_name not in self._STAND_INS:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which could run code; nothing was run")
        # A bound method, as a pickle may set attributes of what it gets here, and a method has none that can be set.
        return getattr(self, self._STAND_INS[full_name])

    def _latin1(self, text, encoding):
        """Python 3's way to write bytes in protocols 0 to 2."""
        if encoding not in ("latin1", b"latin1"):
            raise pickle.UnpicklingError(f"it holds text in the encoding {encoding!r}, not bytes")
        return text.encode("latin1")

    def _array(self, *_):
        """An empty array, to be filled through __setstate__."""
        return _Array()

    def _dtype(self, code, *_):
        return _DType(code)

    def _boolean(self, dtype, content):
        dtype.require("b1")
        return content != b"\0"


class _DType:
    def __init__(self, code):
        self.code = code if isinstance(code, str) else code.decode("latin1")

    def __setstate__(self, state):
        """Byte order and fields, of which types of one byte have none."""

    def require(self, code):
        if self.code != code:
            raise pickle.UnpicklingError(f"it holds numpy data of type {self.code}, not {code}")


class _Array:
    content = b""

    def __setstate__(self, state):
        _, shape, dtype, _, content = state
        dtype.require("u1")
        if not isinstance(content, bytes) or shape != (len(content),):
            raise pickle.UnpicklingError(f"it holds an array of shape {shape}, not a 1-d one of the length of its data")
        self.content = content
