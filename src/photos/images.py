"""Image files of any kind as arrays, upright and in colour, as OpenCV has them."""

import io
import os
import struct

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from insightface_mx.base.errors import UserError
from insightface_mx.photos.decode import to_bgr

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
MAX_PIXELS = 1 << 26  # 200 MB once decoded; a small file can claim any size

# Pillow's plug-ins raise all of these for damaged files.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, LookupError, OverflowError, struct.error)


def find(folder):
    """Paths of the image files in a folder and its subfolders, known by EXTENSIONS, in sorted order."""
    paths = [os.path.join(where, name) for where, _, names in os.walk(folder) for name in names]
    return sorted(path for path in paths if path.lower().endswith(EXTENSIONS))


def read(path):
    """Read an image file: (height, width, 3) uint8, BGR, turned as its EXIF orientation says; alpha is dropped.

    16 bits a channel become 8, grey and palettes become colour, of several frames the first is taken. UserError: the
    file cannot be opened, is no image, is cut short, damaged, or has more than MAX_PIXELS pixels.
    """
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise UserError(f"cannot open {path}: {error.strerror}") from error
    return decode(content, path)


def decode(content, name):
    """Decode an image from its bytes, as `read` does; `name` is what a UserError calls it."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            _check_size(image, name)
            return _to_bgr(ImageOps.exif_transpose(image))
    except UnidentifiedImageError as error:
        raise UserError(f"{name} is not an image that Pillow knows: convert it to JPEG or PNG") from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{name} is too large: {error}") from error
    except _DAMAGE as error:
        raise UserError(f"{name} is a damaged image or one cut short ({error}): get it again") from error


def _check_size(image, name):
    if image.width * image.height > MAX_PIXELS:
        raise UserError(
            f"{name} has {image.width}x{image.height} pixels, more than {MAX_PIXELS >> 20} million: make it smaller"
        )


def _to_bgr(image):
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip at 255
        return to_bgr(np.clip(image, 0, 65535).astype(np.uint16))
    return np.ascontiguousarray(np.asarray(image.convert("RGB"))[:, :, ::-1])
