"""How image files are recognised, and what their first bytes say: the one list of the formats that are opened.

A header is read before anything is decoded, because a small file can claim any size. Formats that are not named here
are never opened: Pillow gives some to programs outside, and others grow without bounds.
"""

from __future__ import annotations

import re
import struct
import zlib
from typing import Callable, NamedTuple

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".pbm", ".pgm", ".ppm", ".tif", ".tiff", ".webp")
KNOWN = "JPEG, PNG, WebP, TIFF, BMP, GIF, PBM, PGM or PPM"

_EXIF = b"Exif\0\0"
_ORIENTATION = 0x0112  # tag of TIFF and EXIF: how to turn the image, 1 to 8
_WIDTHS, _HEIGHTS = (256, 322), (257, 323)  # tags of TIFF, of the image and of its tiles
_TAG_FORMATS = {1: "B", 3: "H", 4: "I"}  # types of a tag of one whole number: byte, short, long
_PNG_CHUNK, _RIFF_CHUNK = struct.Struct(">I4s"), struct.Struct("<4sI")  # length and name, name and length
_MAX_PROFILE = 1 << 16  # bytes of EXIF data in a PNG's text
_RAW_PROFILE = b"Raw profile type exif\0"  # ImageMagick's name of such text
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD8)}  # markers of JPEG that no length follows
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers of JPEG that a size follows
# A JPEG of OpenCV, Pillow or TurboJPEG as data sets hold them: JFIF, tables, a baseline frame with both sides below
# 8192. Up to its size it has no other segment, so no EXIF data.
_USUAL_JPEG = re.compile(
    rb"\xff\xd8\xff\xe0\x00\x10.{14}(?:\xff\xdb\x00\x43.{65}){1,2}\xff\xc0\x00[\x0b\x11]\x08[\x00-\x1f].[\x00-\x1f].",
    re.DOTALL,
)
_PNM_SPACE = rb"(?:\s|#[^\r\n]*[\r\n])+"
_PNM = re.compile(rb"P[1-6]" + _PNM_SPACE + rb"(\d{1,9})" + _PNM_SPACE + rb"(\d{1,9})\s")
_PNM_HEADER = 4096  # bytes, with its comments


class Header(NamedTuple):
    """What an image file says of itself.

    Attributes:
        kind: Pillow's name of the format.
        width: In pixels, as it is stored.
        height: Likewise.
        orientation: EXIF orientation: how to turn the stored image, 1 (not at all) to 8.
    """

    kind: str
    width: int
    height: int
    orientation: int = 1


def is_image(path: str) -> bool:
    """Return whether a file has the extension of an image."""
    return path.lower().endswith(EXTENSIONS)


def extension(encoded: bytes) -> str:
    """Return the file extension of an encoded image, '.img' where its format is unknown."""
    known = _format(encoded)
    return ".img" if known is None else known.extension


def is_usual_jpeg(encoded: bytes) -> bool:
    """Return whether a file is surely a JPEG of less than MAX_PIXELS pixels that needs no turn; takes a microsecond."""
    return _USUAL_JPEG.match(encoded) is not None


def read_header(encoded: bytes) -> Header | None:
    """Read what an image file says of itself; nothing is decoded.

    Returns:
        The header; None where the file has none of the formats that are opened.

    Raises:
        ValueError: The header is damaged or cut short.
    """
    known = _format(encoded)
    if known is None:
        return None
    try:
        return known.read(encoded)
    except (struct.error, LookupError) as error:
        raise ValueError(f"damaged header: {error}") from error


def _jpeg(encoded: bytes) -> Header:
    """Follow the segments up to the frame, as libjpeg does: bytes between two segments are skipped."""
    usual = _USUAL_JPEG.match(encoded)
    if usual:
        height, width = struct.unpack_from(">HH", encoded, usual.end() - 4)
        return Header("JPEG", width, height)
    position, orientation = 2, None
    while True:
        position = encoded.index(b"\xff", position) + 1
        marker = encoded[position]
        if marker in (0, 0xFF):  # no marker, or filling before one
            continue
        position += 1
        if marker in _WITHOUT_LENGTH:
            continue
        (length,) = struct.unpack_from(">H", encoded, position)
        if length < 2 or marker in (0xD8, 0xD9, 0xDA):
            raise ValueError("no frame")
        if marker in _FRAMES:
            height, width = struct.unpack_from(">HH", encoded, position + 3)
            return Header("JPEG", width, height, orientation or 1)
        if marker == 0xE1 and orientation is None and encoded[position + 2 : position + 8] == _EXIF:
            orientation = _orientation(encoded[position + 8 : position + length])
        position += length


def _png(encoded: bytes) -> Header:
    length, name, width, height = struct.unpack_from(">I4sII", encoded, 8)
    if name != b"IHDR" or length != 13:
        raise ValueError("no IHDR")
    return Header("PNG", width, height, _orientation(_png_exif(encoded)))


def _png_exif(encoded: bytes) -> bytes:
    """Return the EXIF data of a PNG: of its chunk eXIf, or of ImageMagick's text."""
    position, last = 8, len(encoded) - 8
    while position <= last:
        length, name = _PNG_CHUNK.unpack_from(encoded, position)
        start, position = position + 8, position + 12 + length
        if name == b"eXIf":
            return encoded[start : start + length]
        if name in (b"tEXt", b"zTXt") and encoded.startswith(_RAW_PROFILE, start):
            return _raw_profile(name, encoded[start + len(_RAW_PROFILE) : start + length])
    return b""


def _raw_profile(chunk: bytes, text: bytes) -> bytes:
    """Return the EXIF data that ImageMagick writes in digits, after two lines; b"" where the text is damaged."""
    try:
        if chunk == b"zTXt":
            text = zlib.decompressobj().decompress(text[1:], _MAX_PROFILE)
        return bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("latin1"))
    except (ValueError, zlib.error):
        return b""


def _webp(encoded: bytes) -> Header:
    kind = encoded[12:16]
    if kind == b"VP8X":
        low = struct.unpack_from("<HBHB", encoded, 24)
        width, height = 1 + low[0] + (low[1] << 16), 1 + low[2] + (low[3] << 16)
        return Header("WEBP", width, height, _orientation(_webp_exif(encoded)))
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", encoded, 21)
        return Header("WEBP", 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))
    if kind != b"VP8 ":
        raise ValueError("no VP8")
    width, height = struct.unpack_from("<HH", encoded, 26)
    return Header("WEBP", width & 0x3FFF, height & 0x3FFF)


def _webp_exif(encoded: bytes) -> bytes:
    position, last = 12, len(encoded) - 8
    while position <= last:
        name, length = _RIFF_CHUNK.unpack_from(encoded, position)
        if name == b"EXIF":
            return encoded[position + 8 : position + 8 + length]
        position += 8 + length + length % 2
    return b""


def _tiff(encoded: bytes) -> Header:
    tags = _tags(encoded)
    width, height = (max(tags.get(side, 0) for side in sides) for sides in (_WIDTHS, _HEIGHTS))
    return Header("TIFF", width, height)  # Pillow turns it


def _tags(content: bytes) -> dict[int, int]:
    """Return the whole numbers of the first directory of a TIFF file or of EXIF data, by tag."""
    order = {b"II*\0": "<", b"MM\0*": ">"}[content[:4]]
    (place,) = struct.unpack_from(f"{order}I", content, 4)
    (count,) = struct.unpack_from(f"{order}H", content, place)
    tags: dict[int, int] = {}
    for start in range(place + 2, place + 2 + 12 * count, 12):
        tag, kind, values = struct.unpack_from(f"{order}HHI", content, start)
        if kind in _TAG_FORMATS and values == 1:
            (value,) = struct.unpack_from(order + _TAG_FORMATS[kind], content, start + 8)
            tags[tag] = max(value, tags.get(tag, 0))  # of a tag that is there twice, readers take one or the other
    return tags


def _orientation(exif: bytes) -> int:
    """Return the orientation that EXIF data say; 1 where they say none or are damaged."""
    try:
        found = _tags(exif[len(_EXIF) :] if exif.startswith(_EXIF) else exif).get(_ORIENTATION, 1)
    except (struct.error, LookupError):
        return 1
    return found if 1 <= found <= 8 else 1


def _bmp(encoded: bytes) -> Header:
    (size,) = struct.unpack_from("<I", encoded, 14)
    width, height = struct.unpack_from("<HH" if size == 12 else "<ii", encoded, 18)
    return Header("BMP", abs(width), abs(height))  # a height below 0: from top to bottom


def _gif(encoded: bytes) -> Header:
    return Header("GIF", *struct.unpack_from("<HH", encoded, 6))


def _pnm(encoded: bytes) -> Header:
    found = _PNM.match(encoded, 0, _PNM_HEADER)
    if found is None:
        raise ValueError("no width and height")
    return Header("PPM", int(found[1]), int(found[2]))


class _Format(NamedTuple):
    start: re.Pattern[bytes]
    extension: str
    read: Callable[[bytes], Header]


_FORMATS = tuple(
    _Format(re.compile(start, re.DOTALL), ending, read)
    for start, ending, read in (
        (rb"\xff\xd8\xff", ".jpg", _jpeg),
        (rb"\x89PNG\r\n\x1a\n", ".png", _png),
        (rb"RIFF....WEBP", ".webp", _webp),
        (rb"BM", ".bmp", _bmp),
        (rb"GIF8[79]a", ".gif", _gif),
        (rb"P[14][\s#]", ".pbm", _pnm),
        (rb"P[25][\s#]", ".pgm", _pnm),
        (rb"P[36][\s#]", ".ppm", _pnm),
        (rb"II\*\0|MM\0\*", ".tif", _tiff),
    )
)


def _format(encoded: bytes) -> _Format | None:
    return next((known for known in _FORMATS if known.start.match(encoded)), None)
