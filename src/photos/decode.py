"""From the bytes of an image file to pixels: turned upright, and never larger than MAX_PIXELS.

Records of data sets (`read_record`, `decode_record`, `decode_face`): as fast as possible, RGB.
Photos of users (`decode_photo`): the same pixels in BGR.
"""

from __future__ import annotations

import importlib.util
import io
import warnings
from typing import Callable

import cv2
import numpy as np
from PIL import Image, ImageOps

from insightface_mx.base.errors import UserError
from insightface_mx.base.limits import MANY_PIXELS, MAX_LENGTH, MAX_PIXELS, MAX_SCANS
from insightface_mx.cli.types import Size
from insightface_mx.files.regular_file import open_regular
from insightface_mx.files.safe_pickle import DAMAGE
from insightface_mx.files.wrong_file import LENGTH, name_of_wrong_file
from insightface_mx.photos.image_files import KNOWN, Header, is_usual_jpeg, read_header

if importlib.util.find_spec("simplejpeg"):
    import simplejpeg
else:
    simplejpeg = None

_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {  # EXIF orientation -> how to turn the stored image
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: np.rot90(image, 2).transpose(1, 0, 2),
    8: lambda image: np.rot90(image),
}
_PILLOW_LIMIT = (Image.DecompressionBombError, Image.DecompressionBombWarning)
warnings.simplefilter("error", Image.DecompressionBombWarning)  # such an image is refused here: no warning as well
_BY_PILLOW = ("GIF", "TIFF")  # formats that OpenCV's versions read differently or not at all


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
    """Decode a record as `read_record` does; None where it is no complete image of MAX_PIXELS or fewer."""
    try:
        return read_record(encoded, "it", memory)
    except UserError:
        return None


def read_record(encoded: bytes, name: str, memory: np.ndarray | None = None) -> np.ndarray:
    """Decode a record: the image of `decode_photo` in RGB.

    JPEGs take a twentieth less time with the package simplejpeg, where it is installed, and give the same pixels.

    Args:
        encoded: Bytes of an image file.
        name: What an error calls it.
        memory: uint8 array that may be overwritten, and the image a view of it: new memory costs time.

    Returns:
        RGB, (h, w, 3) uint8.

    Raises:
        UserError: As `decode_photo`.
    """
    if simplejpeg and is_usual_jpeg(encoded):
        try:
            return simplejpeg.decode_jpeg(encoded, buffer=memory)
        except ValueError:  # OpenCV decides: damaged files, images larger than the memory
            pass
    return cv2.cvtColor(decode_photo(encoded, name), cv2.COLOR_BGR2RGB)


def decode_photo(content: bytes, name: str) -> np.ndarray:
    """Decode a photo of a format in `image_files`, turned upright as its EXIF orientation says.

    16 bits a channel become 8, grey and palettes become colour, alpha is dropped, of several frames the first is taken.

    Args:
        content: Bytes of an image file.
        name: What an error calls it.

    Returns:
        BGR, (height, width, 3) uint8, contiguous.

    Raises:
        UserError: It is empty, no image, cut short, damaged, or has more than MAX_PIXELS pixels or a side of more than
            MAX_LENGTH.
    """
    if not content:
        raise UserError(f"{name} is empty: get it again")
    try:
        header = read_header(content)
        if header is None:
            wrong = name_of_wrong_file(content[:LENGTH])
            if wrong:
                raise UserError(f"{name} is {wrong}")
            raise UserError(f"{name} is not an image that can be read ({KNOWN}): convert it to JPEG or PNG")
        _check_size(header.width, header.height, name)
        if header.width * header.height > MANY_PIXELS and content.count(b"\xff\xda") > MAX_SCANS:
            raise ValueError("each scan of a JPEG goes over all pixels")
        return np.ascontiguousarray(_decode_upright(content, header, name))
    except DAMAGE as error:
        raise UserError(f"{name} is a damaged image or one cut short: get it again") from error


def read_photo(path: str) -> np.ndarray:
    """Read an image file, as `decode_photo` does. Raises UserError, also where the file cannot be opened."""
    try:
        with open_regular(path) as file:
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
    if scaled[0] * scaled[1] > MAX_PIXELS:  # a thin strip, of which the result shows a small part
        part = np.ceil(2 * np.array(image_size) / scale).astype(int)
        return fit(_centre(image, *np.minimum(part, image.shape[:2])), image_size)
    image = cv2.resize(image, scaled, interpolation=cv2.INTER_CUBIC)  # as mx.image.resize_short has it
    return _centre(image, height, width)


def _centre(image: np.ndarray, height: int, width: int) -> np.ndarray:
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


def _check_size(width: int, height: int, name: str) -> None:
    if width * height > MAX_PIXELS:
        raise UserError(f"{name} has {width}x{height} pixels, more than {MAX_PIXELS >> 20} million: make it smaller")
    if max(width, height) > MAX_LENGTH:
        raise UserError(f"{name} has {width}x{height} pixels, a side of more than {MAX_LENGTH}: cut it")


def _decode_upright(content: bytes, header: Header, name: str) -> np.ndarray:
    """Decode with OpenCV; what it cannot decode, with Pillow. Raises one of DAMAGE where both cannot."""
    pixels = None
    if header.kind not in _BY_PILLOW:
        try:
            encoded = np.frombuffer(content, np.uint8)
            pixels = cv2.imdecode(encoded, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        except cv2.error:  # sides that no image has
            pass
    if pixels is None:
        pixels = _decode_with_pillow(content, header, name)
    return _UPRIGHT[header.orientation](pixels) if header.orientation in _UPRIGHT else pixels


def _decode_with_pillow(content: bytes, header: Header, name: str) -> np.ndarray:
    try:
        file = Image.open(io.BytesIO(content), formats=[header.kind])
    except _PILLOW_LIMIT as error:  # a second header, with another size than the first
        raise UserError(f"{name} has more than {MAX_PIXELS >> 20} million pixels: make it smaller") from error
    with file:
        _check_size(file.width, file.height, name)  # of a GIF, the first frame may be larger than the header says
        image = ImageOps.exif_transpose(file) if header.kind == "TIFF" else file
        if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip at 255
            return to_bgr(np.clip(np.asarray(image), 0, 65535).astype(np.uint16))
        return np.asarray(image.convert("RGB"))[:, :, ::-1]
