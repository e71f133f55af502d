"""From the bytes of an image file to pixels, under one of two policies.

Records of data sets (`decode_record`, `decode_face`): as fast as possible, RGB, None for what is no image.
Photos of users (`decode_photo`): every format, turned upright, BGR, a limit on the size, an error with a reason.
"""

from __future__ import annotations

import functools
import importlib.util
import io
from typing import Callable

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from insightface_mx.base.errors import UserError
from insightface_mx.base.limits import MAX_PIXELS
from insightface_mx.cli.types import Size
from insightface_mx.formats.safe_pickle import DAMAGE

if importlib.util.find_spec("simplejpeg"):
    import simplejpeg
else:
    simplejpeg = None

_JPEG = b"\xff\xd8"
_START = 64  # bytes in which a camera's EXIF data begin, if there are any
_ORIENTATION = 0x0112  # EXIF tag
_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {  # EXIF orientation -> how to turn the stored image
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: np.rot90(image, 2).transpose(1, 0, 2),
    8: lambda image: np.rot90(image),
}
_PNG_EXIF = (b"eXIf", b"Raw profile type exif")


def decode_face(encoded: bytes, image_size: Size, memory: np.ndarray | None = None) -> np.ndarray | None:
    """Decode a record and fit it to the size that a network takes.

    Args:
        encoded: Bytes of an image file.
        image_size: Height and width; an image of another size is fitted, see `fit`.
        memory: See `decode_record`.

    Returns:
        RGB, (height, width, 3) uint8; None where it is no complete image.
    """
    image = decode_record(encoded, memory)
    return None if image is None else fit(image, image_size)


def decode_record(encoded: bytes, memory: np.ndarray | None = None) -> np.ndarray | None:
    """Decode a record: JPEG, PNG or another of OpenCV's formats.

    JPEGs take a twentieth less time with the package simplejpeg, where it is installed, and give the same pixels.

    Args:
        encoded: Bytes of an image file.
        memory: uint8 array that may be overwritten, and the image a view of it: new memory costs time.

    Returns:
        RGB, (h, w, 3) uint8; None where it is no complete image.
    """
    if simplejpeg and encoded[:2] == _JPEG and b"Exif" not in encoded[:_START]:
        try:
            return simplejpeg.decode_jpeg(encoded, buffer=memory)
        except ValueError:  # OpenCV decides: damaged files, four inks, images larger than the memory
            pass
    image = _decode_bgr(encoded, cv2.IMREAD_COLOR)
    return None if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def decode_photo(content: bytes, name: str) -> np.ndarray:
    """Decode a photo: any format that OpenCV or Pillow reads, turned upright as its EXIF orientation says.

    16 bits a channel become 8, grey and palettes become colour, alpha is dropped, of several frames the first is taken.
    What OpenCV can decode has the same pixels as in `decode_record`.

    Args:
        content: Bytes of an image file.
        name: What an error calls it.

    Returns:
        BGR, (height, width, 3) uint8, contiguous.

    Raises:
        UserError: It is no image, is cut short, damaged, or has more than MAX_PIXELS pixels.
    """
    try:
        with Image.open(io.BytesIO(content), formats=_formats()) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UserError(
                    f"{name} has {image.width}x{image.height} pixels, more than {MAX_PIXELS >> 20} million: "
                    "make it smaller"
                )
            return np.ascontiguousarray(_decode_upright(content, image))
    except UnidentifiedImageError as error:
        pixels = _decode_bgr(content, cv2.IMREAD_COLOR)  # of a format that OpenCV alone knows
        if pixels is None:
            raise UserError(f"{name} is not an image that Pillow or OpenCV knows: convert it to JPEG or PNG") from error
        return pixels
    except Image.DecompressionBombError as error:
        raise UserError(f"{name} is too large: {error}") from error
    except DAMAGE as error:
        raise UserError(f"{name} is a damaged image or one cut short: get it again") from error


def read_photo(path: str) -> np.ndarray:
    """Read an image file, as `decode_photo` does. Raises UserError, also where the file cannot be opened."""
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise UserError(f"cannot open {path}: {error.strerror}") from error
    return decode_photo(content, path)


def fit(image: np.ndarray, image_size: Size) -> np.ndarray:
    """Scale an image on its short side so that it covers `image_size` (height, width), and crop its centre."""
    height, width = image_size
    if image.shape[:2] == (height, width):
        return image
    scale = max(height / image.shape[0], width / image.shape[1])
    scaled = (max(width, round(image.shape[1] * scale)), max(height, round(image.shape[0] * scale)))
    image = cv2.resize(image, scaled, interpolation=cv2.INTER_CUBIC)  # as mx.image.resize_short has it
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def network_input(image: np.ndarray) -> np.ndarray:
    """Return an image as networks take it: (3, height, width) RGB, from (height, width, 3) BGR."""
    return image[:, :, ::-1].transpose(2, 0, 1)


def to_bgr(image: np.ndarray) -> np.ndarray:
    """Bring an image of OpenCV's kinds to one kind.

    Args:
        image: Grey, BGR or BGRA (the alpha is dropped) of 8 or 16 bits: (h, w), (h, w, 1), (h, w, 3) or (h, w, 4).

    Returns:
        BGR, (h, w, 3) uint8, contiguous.

    Raises:
        ValueError: It is anything else, or has no pixels.
    """
    if not isinstance(image, np.ndarray):
        raise ValueError(f"an image is a numpy array, not {type(image).__name__}; cv2.imread gives None where it fails")
    if image.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"an image has pixels of uint8 or uint16, not {image.dtype}")
    planes = image[:, :, None] if image.ndim == 2 else image
    if planes.ndim != 3 or planes.shape[2] not in (1, 3, 4) or not planes.size:
        raise ValueError(f"an image has the shape (h, w), (h, w, 1), (h, w, 3) or (h, w, 4), not {image.shape}")
    if image.dtype == np.uint16:
        planes = np.rint(planes / 257).astype(np.uint8)
    return np.ascontiguousarray(np.repeat(planes, 3, axis=2) if planes.shape[2] == 1 else planes[:, :, :3])


def _decode_bgr(encoded: bytes, flags: int) -> np.ndarray | None:
    """Decode with OpenCV; None where it cannot."""
    if not encoded:
        return None
    try:
        return cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)
    except cv2.error:  # sides that no image has
        return None


def _decode_upright(content: bytes, image: Image.Image) -> np.ndarray:
    """Decode with OpenCV as records are; what it cannot decode, with Pillow. image: the same file, opened by Pillow."""
    pixels = _decode_bgr(content, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is not None:
        orientation = _orientation(content, image)
        return _UPRIGHT[orientation](pixels) if orientation in _UPRIGHT else pixels
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):  # 16-bit grey, which Pillow would clip at 255
        return to_bgr(np.clip(np.asarray(upright), 0, 65535).astype(np.uint16))
    return np.asarray(upright.convert("RGB"))[:, :, ::-1]


def _orientation(content: bytes, image: Image.Image) -> int:
    """Return an image's EXIF orientation; 1, upright, where there is none, it is damaged, or OpenCV has turned it."""
    if image.format == "TIFF":
        return 1
    if image.format == "PNG" and not any(mark in content for mark in _PNG_EXIF):
        return 1  # Pillow would decode the whole image to find out
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except DAMAGE:
        return 1


@functools.lru_cache(maxsize=None)
def _formats() -> tuple[str, ...]:
    """Return Pillow's formats without EPS, which it would give to a program outside, Ghostscript."""
    Image.init()
    return tuple(sorted(set(Image.ID) - {"EPS"}))
