"""Image files: damaged ones of every format, and small ones that claim to be large."""

from __future__ import annotations

import functools
import io
import struct
import zlib
from pathlib import Path
from typing import Iterator

import numpy as np
from hostile.mutations import damaged, file_cases
from hostile.rule import ERROR, Case, Group
from PIL import Image

from insightface_mx.photos import decode

SIZE = (48, 40)  # height and width of the good images
FORMATS = ("jpg", "png", "webp", "bmp", "tif", "gif", "ppm")
SIDES = (30_000, 65_500, 100_000, 2**31 - 1)  # that a header may claim


def picture() -> np.ndarray:
    """Return a small picture with some detail."""
    noise = np.random.RandomState(3).randint(0, 60, (*SIZE, 3))
    return (noise + np.linspace(0, 190, SIZE[1]).astype(int)[None, :, None]).astype(np.uint8)


def prepare(folder: Path) -> None:
    for ending in FORMATS:
        image = Image.fromarray(picture())
        image.save(folder / f"good.{ending}")


def cases(good: Path) -> Iterator[Case]:
    for ending in FORMATS:
        content = (good / f"good.{ending}").read_bytes()
        for name, spoiled in damaged(content, ending, flips=16, cuts=6, words=8):
            yield Case(f"{ending}: {name}", _writer(f"a.{ending}", spoiled))
    for case in file_cases(good, "good.jpg", flips=0, cuts=2, words=0):
        yield case._replace(name=f"file {case.name}")
    large = {
        "jpg": jpeg_of(65_500, 65_500, (good / "good.jpg").read_bytes()),
        "png": png_of(30_000, 30_000),
        "webp": webp_of(16_383, 16_383),
        "bmp": bmp_of(100_000, 100_000),
        "bmp, wide": bmp_of(2**31 - 1, 1),
        "bmp, upside down": bmp_of(100_000, -(2**31)),
        "gif": gif_of(65_535, 65_535),
        "tif": tiff_of(100_000, 100_000),
        "tif in one strip": tiff_of(2**31 - 1, 2),
        "ppm": b"P6\n100000 100000\n255\n" + bytes(1000),
        "ppm of 5000 digits": b"P6\n" + b"9" * 5000 + b" 1\n255\n" + bytes(1000),
        "pgm of 16 bits": b"P5\n50000 50000\n65535\n" + bytes(1000),
        "png of 16 bits": png_of(20_000, 20_000, depth=16),
        "jp2": b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x14ftypjp2 \0\0\0\0jp2 \0\0\0-jp2h\0\0\0\x16ihdr"
        + struct.pack(">IIHBBBB", 100_000, 100_000, 3, 7, 7, 0, 0),
        "hdr": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 60000 +X 60000\n" + bytes(100),
        "exr": b"v/1\x01\2\0\0\0dataWindow\0box2i\0\x10\0\0\0" + struct.pack("<4i", 0, 0, 99_999, 99_999) + bytes(50),
        "jpg, second header": jpeg_of_two_headers(40, 40, 30_000, 30_000, (good / "good.jpg").read_bytes()),
        "gif, first frame": gif_of(10, 10, frame=(20_000, 20_000)),
        "gif, first frame a little": gif_of(10, 10, frame=(10_000, 10_000)),
        "ras": struct.pack(">8I", 0x59A66A95, 60_000, 60_000, 24, 0, 1, 0, 0) + bytes(100),
    }
    for name, content in large.items():
        number = {"jpg": "h10 ", "png": "h10 "}.get(name, "")
        yield Case(f"{number}large {name}", _writer("a.jpg", content), ERROR)
    yield Case("h22 eps called jpg", _writer("a.jpg", EPS), ERROR)
    yield Case("h22 dds called jpg", _writer("a.jpg", dds()), ERROR)
    yield Case("png of many chunks", _writer("a.png", png_of(4, 4, chunks=20_000)))
    yield Case("png with a text of 60 MB", _writer("a.png", png_of(4, 4, text=60 << 20)))
    yield Case("gif of many frames", _writer("a.gif", frames_gif(500)))
    yield Case("tif that is its own next page", _writer("a.tif", looped_tiff()))
    yield Case("jpg with half an EXIF", _writer("a.jpg", jpeg_with_exif((good / "good.jpg").read_bytes())))
    for start in (
        b"%PDF-1.4\n",
        b"<svg xmlns='http://www.w3.org/2000/svg' width='99999' height='99999'/>",
        b"8BPS\0\1",
        b"\0\0\1\0\1\0\0\0",
        b"FUJIFILM",
        b"SIMPLE  =                    T",
        b"\x89HDF\r\n\x1a\n",
        b"GRIB",
        b"BUFR",
        b"\xd7\xcd\xc6\x9a",
        b"#FIG 3.2",
        b"/* XPM */\n",
        b"P7 332\n",
        b"\x0a\x05\x01\x08",
    ):
        yield Case(f"format {start[:10]!r}", _writer("a.jpg", start + bytes(3000)), ERROR)


def read(folder: Path) -> None:
    """Read the file as a photo and as a record; either may find it good, and what it returns must be pixels."""
    (path,) = [path for path in folder.iterdir() if path.name.startswith(("a.", "good.jpg"))] or [folder / "good.jpg"]
    photo = decode.read_photo(str(path))
    assert photo.dtype == np.uint8
    assert photo.ndim == 3
    assert photo.shape[2] == 3
    record = decode.decode_face(path.read_bytes(), (32, 32))
    assert record is None or record.shape == (32, 32, 3)


def read_record(folder: Path) -> None:
    """Read the file as a record: None stands for no image."""
    (path,) = folder.iterdir()
    record = decode.decode_face(path.read_bytes(), (32, 32))
    assert record is None or record.shape == (32, 32, 3)


def record_cases(good: Path) -> Iterator[Case]:
    """Yield the cases with one plain file: what a record or a verification set may hold."""
    for case in cases(good):
        if not case.name.startswith("file "):
            yield case._replace(
                name=f"record, {case.name}" if not case.name.startswith("h") else f"{case.name} record", expect="either"
            )


GROUPS = [Group("images", prepare, cases, read), Group("image records", prepare, record_cases, read_record)]


def _writer(name: str, content: bytes):
    return lambda folder: (folder / name).write_bytes(content)


def jpeg_of(width: int, height: int, good: bytes) -> bytes:
    """Return a JPEG that claims other sides; its data are those of a small one."""
    place = good.index(b"\xff\xc0") + 5
    return good[:place] + struct.pack(">HH", height, width) + good[place + 4 :]


@functools.lru_cache(maxsize=None)
def png_of(width: int, height: int, depth: int = 8, chunks: int = 0, text: int = 0) -> bytes:
    """Return a valid grey PNG of zeros, which compresses to a thousandth."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    row = bytes(1 + width * depth // 8)
    packer = zlib.compressobj(1)
    rows = [packer.compress(row) for _ in range(height)]
    data = b"".join([*rows, packer.flush()])
    extra = chunk(b"tEXt", b"a\0b") * chunks
    if text:
        extra += chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(text)))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def webp_of(width: int, height: int) -> bytes:
    """Return a lossless WebP that claims these sides."""
    bits = (width - 1) | (height - 1) << 14
    data = b"\x2f" + struct.pack("<I", bits) + bytes(60)
    return b"RIFF" + struct.pack("<I", len(data) + 12) + b"WEBPVP8L" + struct.pack("<I", len(data)) + data


def bmp_of(width: int, height: int) -> bytes:
    head = b"BM" + struct.pack("<IHHI", 154, 0, 0, 54)
    return head + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 2835, 2835, 0, 0) + bytes(100)


def jpeg_of_two_headers(width: int, height: int, second_width: int, second_height: int, good: bytes) -> bytes:
    """Return a JPEG with two frame headers; libjpeg refuses it, and Pillow takes the size in the second."""
    start = good.index(b"\xff\xc0")
    end = start + 2 + int.from_bytes(good[start + 2 : start + 4], "big")
    small, large = (jpeg_of(*size, good)[start:end] for size in ((width, height), (second_width, second_height)))
    return good[:start] + small + large + good[end:]


def gif_of(width: int, height: int, frame: tuple[int, int] | None = None) -> bytes:
    """Return a GIF whose header claims these sides, and whose first frame has the same or others."""
    size, frame_size = struct.pack("<HH", width, height), struct.pack("<HH", *(frame or (width, height)))
    return b"GIF89a" + size + b"\x80\0\0\0\0\0\xff\xff\xff" + b"," + bytes(4) + frame_size + b"\0\x02\x02D\x01\0;"


def frames_gif(count: int) -> bytes:
    frames = [Image.new("P", (64, 64), index % 250) for index in range(count)]
    target = io.BytesIO()
    frames[0].save(target, "gif", save_all=True, append_images=frames[1:])
    return target.getvalue()


def tiff_of(width: int, height: int) -> bytes:
    entries = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 4, 1, 200),
        (277, 3, 1, 1),
        (278, 4, 1, height),
        (279, 4, 1, 100),
    ]
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return (b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + bytes(4)).ljust(200, b"\0") + bytes(100)


def looped_tiff() -> bytes:
    content = bytearray(tiff_of(4, 4))
    end = 10 + 12 * 9
    content[end : end + 4] = struct.pack("<I", 8)
    return bytes(content)


def jpeg_with_exif(good: bytes) -> bytes:
    exif = b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + struct.pack("<HHII", 0x0112, 3, 0xFFFFFFFF, 6)
    return good[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + good[2:]


def dds() -> bytes:
    return (
        b"DDS "
        + struct.pack("<7I", 124, 0x1007, 64, 64, 0, 0, 0)
        + bytes(44)
        + struct.pack("<8I", 32, 4, 0x31313131, 0, 0, 0, 0, 0)
        + bytes(4096)
    )


EPS = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\n"
    b"(canary) (w) file closefile\nshowpage\n%%EOF\n"
)
