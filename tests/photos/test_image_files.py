"""What image files say of themselves, which is read before they are decoded."""

import re
import struct
import zlib

import cv2
import numpy as np
import pytest
from pictures import HEIGHT, RGB, WIDTH, encoded
from PIL import Image

from insightface_mx.base.errors import UserError
from insightface_mx.photos import decode
from insightface_mx.photos.decode import decode_photo, decode_record
from insightface_mx.photos.image_files import extension, is_usual_jpeg, read_header


def claiming(file_format, width, height):
    """A small image file whose header claims this size."""
    content = bytearray(encoded(Image.fromarray(RGB), file_format))
    if file_format == "PPM":
        return b"P6 # a comment\n%d\t%d #and\n 255\n" % (width, height) + bytes(content[13:])
    if file_format == "PNG":
        header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        return bytes(content[:12]) + header + struct.pack(">I", zlib.crc32(header)) + bytes(content[33:])
    if file_format == "TIFF":
        for tag, value in ((256, width), (257, height)):
            place = re.search(struct.pack("<H", tag) + b"[\3\4]\0\1\0\0\0", content).start()
            content[place : place + 12] = struct.pack("<HHII", tag, 4, 1, value)
        return bytes(content)
    place, form, sides = {
        "JPEG": (content.find(b"\xff\xc0\0\x11\x08") + 5, ">HH", (height, width)),
        "BMP": (18, "<ii", (width, -height)),
        "GIF": (6, "<HH", (width, height)),
        "WEBP": (26, "<HH", (width, height)),
    }[file_format]
    struct.pack_into(form, content, place, *sides)
    return bytes(content)


def webp_canvas(width, height):
    """A WebP of the extended format that claims this size."""
    content = encoded(Image.fromarray(RGB), "WEBP")
    sizes = b"".join(struct.pack("<I", side - 1)[:3] for side in (width, height))
    start = b"RIFF" + struct.pack("<I", len(content) + 10) + b"WEBPVP8X\x0a\0\0\0\0\0\0\0"
    return start + sizes + content[12:]


def webp_lossless(width, height):
    """A lossless WebP that claims this size."""
    content = bytearray(encoded(Image.fromarray(RGB), "WEBP", lossless=True))
    (bits,) = struct.unpack_from("<I", content, 21)
    struct.pack_into("<I", content, 21, (bits >> 28 << 28) | (height - 1) << 14 | width - 1)
    return bytes(content)


COMMENT = b"\xff\xfe\0\x0c\xff\xc0\0\x11\x08\0\1\0\1\3"  # of a JPEG: what looks like a frame of one pixel
ENORMOUS = {
    "jpeg": claiming("JPEG", 65500, 65500),
    "jpeg-just-above": claiming("JPEG", 8193, 8192),
    "jpeg-after-comment": claiming("JPEG", 65500, 65500).replace(b"\xff\xdb", COMMENT + b"\xff\xdb", 1),
    "png": claiming("PNG", 30000, 30000),
    "png-2-billion": claiming("PNG", 1 << 31, 1),
    "webp": claiming("WEBP", 16383, 16383),
    "webp-canvas": webp_canvas(1 << 24, 1 << 24),
    "webp-lossless": webp_lossless(16384, 16384),
    "bmp": claiming("BMP", 30000, 30000),
    "gif": claiming("GIF", 65535, 65535),
    "tiff": claiming("TIFF", 100000, 100000),
    "ppm": claiming("PPM", 99999999, 99999999),
}


@pytest.mark.parametrize("name", ENORMOUS)
def test_a_file_that_claims_to_be_enormous_is_not_decoded(monkeypatch, name):
    for module, function in ((cv2, "imdecode"), (Image, "open"), (decode.simplejpeg, "decode_jpeg")):
        monkeypatch.setattr(module, function, lambda *_, **__: pytest.fail("it is decoded"))
    with pytest.raises(UserError, match=r"a\.png has \d+x\d+ pixels, more than 64 million: make it smaller"):
        decode_photo(ENORMOUS[name], "a.png")
    assert decode_record(ENORMOUS[name]) is None


@pytest.mark.parametrize("size", [(65537, 8), (8, 8_000_000)])
def test_a_strip_is_too_long(size):
    with pytest.raises(UserError, match=r"a\.png has \d+x\d+ pixels, a side of more than 65536: cut it"):
        decode_photo(claiming("PNG", *size), "a.png")


def test_what_the_files_above_claim_is_where_readers_look_for_it():
    for file_format in ("JPEG", "BMP", "GIF", "TIFF", "PPM", "PNG", "WEBP"):
        header = read_header(claiming(file_format, WIDTH, HEIGHT))
        assert (header.kind, header.width, header.height) == (file_format, WIDTH, HEIGHT)
    assert np.array_equal(decode_record(webp_lossless(WIDTH, HEIGHT)), RGB)
    for file_format in ("BMP", "TIFF", "PPM"):
        upside_down = RGB[::-1] if file_format == "BMP" else RGB
        assert np.array_equal(decode_record(claiming(file_format, WIDTH, HEIGHT)), upside_down)


def test_a_gif_whose_first_frame_is_larger_than_the_file_says():
    content = bytearray(encoded(Image.fromarray(RGB[:, :, 0]), "GIF"))
    place = content.index(b",\0\0\0\0" + struct.pack("<HH", WIDTH, HEIGHT))
    struct.pack_into("<HH", content, place + 5, 9300, 9300)
    with pytest.raises(UserError, match=r"a\.gif has 9300x9300 pixels, more than 64 million"):
        decode_photo(bytes(content), "a.gif")


def test_a_jpeg_of_thousands_of_scans():
    """Each of them goes over all pixels: seconds for a few bytes."""
    content = cv2.imencode(".jpg", np.zeros((2100, 2000, 3), np.uint8), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    assert decode_photo(content, "a.jpg").shape == (2100, 2000, 3)
    last = content[content.rindex(b"\xff\xda") : -2]
    with pytest.raises(UserError, match="damaged"):
        decode_photo(content[:-2] + last * 200 + content[-2:], "a.jpg")


@pytest.mark.parametrize("quality", [10, 50, 95, 100])
@pytest.mark.parametrize("shape", [(112, 112, 3), (112, 112), (700, 500, 3)], ids=str)
def test_jpegs_as_data_sets_hold_them_take_the_short_way(quality, shape):
    image = np.zeros(shape, np.uint8)
    assert is_usual_jpeg(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes())
    assert is_usual_jpeg(encoded(Image.fromarray(image), "JPEG", quality=quality))
    exif = Image.Exif()
    exif[0x0112] = 6
    assert not is_usual_jpeg(encoded(Image.fromarray(image), "JPEG", quality=quality, exif=exif))


@pytest.mark.parametrize(
    ("start", "ending"),
    [
        (encoded(Image.fromarray(RGB), "JPEG"), ".jpg"),
        (encoded(Image.fromarray(RGB)), ".png"),
        (encoded(Image.fromarray(RGB), "WEBP"), ".webp"),
        (encoded(Image.fromarray(RGB), "TIFF"), ".tif"),
        (b"MM\0*", ".tif"),
        (encoded(Image.fromarray(RGB), "PPM"), ".ppm"),
        (encoded(Image.fromarray(RGB[:, :, 0]), "PPM"), ".pgm"),
        (b"P4\n", ".pbm"),
        (encoded(Image.fromarray(RGB), "BMP"), ".bmp"),
        (encoded(Image.fromarray(RGB), "GIF"), ".gif"),
        (b"RIFF....WAVE", ".img"),
        (b"P500", ".img"),
        (b"", ".img"),
    ],
)
def test_the_extension_of_a_file_without_a_name(start, ending):
    assert extension(start) == ending


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_is_as_large_as_the_largest_of_its_tags_says(order):
    """Readers differ in which of two equal tags they take, and tiles may be larger than the image."""
    tags = [(256, 4, 1, 100000), (256, 4, 1, 10), (257, 4, 1, 20), (323, 4, 1, 30000)]
    start = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}IH", 8, len(tags))
    header = read_header(start + b"".join(struct.pack(f"{order}HHII", *tag) for tag in tags))
    assert (header.width, header.height) == (100000, 30000)
