"""From the bytes of an image file to the pixels that a network sees."""

import importlib.util

import cv2
import numpy as np

if importlib.util.find_spec("simplejpeg"):
    import simplejpeg
else:
    simplejpeg = None

_JPEG = b"\xff\xd8"
_START = 64  # bytes in which a camera's note on how to turn the image begins, if there is one


def decode(encoded, image_size, memory=None):
    """Decode an image to RGB, (height, width, 3) uint8, as `read_image` does; None where it is none.

    An image of another size is scaled to `image_size` on the short side and cropped around its centre.
    """
    image = read_image(encoded, memory)
    return None if image is None else fit(image, image_size)


def read_image(encoded, memory=None):
    """Decode JPEG, PNG or another of OpenCV's formats to RGB, (h, w, 3) uint8; None where it is no whole image.

    memory: uint8 array whose content may be overwritten, and the image a view of it: new memory costs time.
    JPEGs take a twentieth less time with the package simplejpeg, where it is installed, and give the same pixels.
    """
    image = None
    if simplejpeg and encoded[:2] == _JPEG and b"Exif" not in encoded[:_START]:
        image = _decode_jpeg(encoded, memory)
    return _decode_any(encoded) if image is None else image


def _decode_jpeg(encoded, memory):
    """RGB; None for what is left to OpenCV: damaged files, colours of four inks, images larger than the memory."""
    try:
        return simplejpeg.decode_jpeg(encoded, buffer=memory)
    except ValueError:
        return None


def _decode_any(encoded):
    if not encoded:
        return None
    try:
        image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:  # sides that no image has
        return None
    return None if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def fit(image, image_size):
    """Scale an image on its short side so that it covers `image_size` (height, width), and crop its centre."""
    height, width = image_size
    if image.shape[:2] == (height, width):
        return image
    scale = max(height / image.shape[0], width / image.shape[1])
    scaled = (max(width, round(image.shape[1] * scale)), max(height, round(image.shape[0] * scale)))
    image = cv2.resize(image, scaled, interpolation=cv2.INTER_CUBIC)  # as mx.image.resize_short has it
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def to_bgr(image):
    """An image as OpenCV has it, (h, w, 3) uint8 BGR, from grey, BGR or BGRA (the alpha is dropped) of 8 or 16 bits.

    Shapes (h, w), (h, w, 1), (h, w, 3), (h, w, 4). Raises ValueError for anything else, and for no pixels.
    """
    if not isinstance(image, np.ndarray):
        raise ValueError(f"an image is a numpy array, not {type(image).__name__}; cv2.imread gives None where it fails")
    if image.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"an image has pixels of uint8 or uint16, not {image.dtype}")
    grey = image[:, :, None] if image.ndim == 2 else image
    if grey.ndim != 3 or grey.shape[2] not in (1, 3, 4) or not grey.size:
        raise ValueError(f"an image has the shape (h, w), (h, w, 1), (h, w, 3) or (h, w, 4), not {image.shape}")
    if image.dtype == np.uint16:
        grey = np.rint(grey / 257).astype(np.uint8)
    return np.ascontiguousarray(np.repeat(grey, 3, axis=2) if grey.shape[2] == 1 else grey[:, :, :3])
