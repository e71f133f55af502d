"""How image files are recognised: by their extension, or by their first bytes."""

from __future__ import annotations

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp")

_SIGNATURES = (
    (b"\xff\xd8", ".jpg"),
    (b"\x89PNG", ".png"),
    (b"BM", ".bmp"),
    (b"GIF8", ".gif"),
    (b"RIFF", ".webp"),
    (b"P5", ".pgm"),
    (b"P6", ".ppm"),
    (b"II*\0", ".tif"),
    (b"MM\0*", ".tif"),
)


def is_image(path: str) -> bool:
    """Return whether a file has the extension of an image."""
    return path.lower().endswith(EXTENSIONS)


def extension(encoded: bytes) -> str:
    """Return the file extension of an encoded image, '.img' where its format is unknown."""
    return next((ending for start, ending in _SIGNATURES if encoded.startswith(start)), ".img")
