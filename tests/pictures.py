"""A picture of random pixels, and files of it in Pillow's formats."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 24, 40
RGB = np.random.RandomState(3).randint(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)


def encoded(image: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    """Return the bytes of an image file."""
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    return stream.getvalue()
