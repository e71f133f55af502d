"""Image files of every kind, and what is said of those that are none."""

import struct
import zlib

import cv2
import numpy as np
import pytest
from hostile.images import gif_of, jpeg_of_two_headers
from pictures import HEIGHT, RGB, encoded
from PIL import Image

from insightface_mx.base.errors import UserError
from insightface_mx.photos.decode import decode_photo, decode_record, fit, read_photo
from insightface_mx.photos.sources import open_source


def png(array, extension=".png"):
    return cv2.imencode(extension, array)[1].tobytes()


# 16 bits whose upper eight are those of RGB, and whose lower eight are others that do not round them up or down
SIXTEEN = RGB.astype(np.uint16) * 256 + np.clip(RGB.astype(int) + 60 - 120 * (RGB > 127), 0, 255).astype(np.uint16)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (png(RGB[:, :, ::-1]), RGB),
        (png(RGB[:, :, 0]), RGB[:, :, [0, 0, 0]]),
        (encoded(Image.fromarray(np.dstack([RGB, RGB[:, :, 0]]))), RGB),
        (encoded(Image.fromarray(RGB[:, :, :2])), RGB[:, :, [0, 0, 0]]),
        (png(SIXTEEN[:, :, ::-1]), RGB),
        (png(SIXTEEN[:, :, 1]), RGB[:, :, [1, 1, 1]]),
        (png(RGB[:1, :1, ::-1]), RGB[:1, :1]),
        (encoded(Image.fromarray(RGB).convert("1")), np.asarray(Image.fromarray(RGB).convert("1").convert("RGB"))),
        (encoded(Image.fromarray(RGB), "BMP"), RGB),
        (png(SIXTEEN[:, :, 1], ".tif"), RGB[:, :, [1, 1, 1]]),
    ],
    ids="rgb grey rgba grey-alpha 16-bit 16-bit-grey 1x1 black-white bmp tiff".split(),
)
def test_every_kind_becomes_bgr_of_8_bits(content, expected):
    image = decode_photo(content, "a.png")
    assert image.dtype == np.uint8 and image.flags.c_contiguous
    assert np.array_equal(image, expected[:, :, ::-1])


def test_palettes_and_frames():
    first = Image.fromarray(RGB).quantize(16)
    content = encoded(first, "GIF", save_all=True, append_images=[first.rotate(180)])
    assert np.array_equal(decode_photo(content, "a.gif")[:, :, ::-1], np.asarray(first.convert("RGB")))


@pytest.mark.parametrize("quality", [30, 95])
def test_jpeg_as_opencv_decodes_it_for_training(quality):
    smooth = cv2.resize(RGB, (112, 112), interpolation=cv2.INTER_CUBIC)
    content = cv2.imencode(".jpg", smooth, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    difference = decode_photo(content.tobytes(), "a.jpg").astype(int) - cv2.imdecode(content, cv2.IMREAD_COLOR)
    assert np.abs(difference).max() <= 1


TURNS = {  # EXIF orientation: what is stored, made from the upright picture
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize(
    ("file_format", "options"),
    [("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {}), ("JPEG", {"quality": 100, "subsampling": 0})],
)
@pytest.mark.parametrize("orientation", TURNS)
def test_a_photo_is_turned_upright(orientation, file_format, options):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(TURNS[orientation](RGB)))
    content = encoded(stored, file_format, exif=exif, **options)
    found = decode_photo(content, "a.png")[:, :, ::-1]
    assert np.abs(found.astype(int) - RGB).max() <= (4 if file_format == "JPEG" else 0)
    assert np.array_equal(decode_record(content), found)


def chunk(name, data):
    """A chunk of a PNG file."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


TURNED = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"  # EXIF data: orientation 6
MOTOROLA = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"  # the same, most significant byte first
RAW = b"Raw profile type exif\0"
HEX = b"\nexif\n      26\n" + TURNED.hex().encode()


@pytest.mark.parametrize(
    "place",
    [
        lambda data: data[:33] + chunk(b"eXIf", TURNED) + data[33:],
        lambda data: data[:33] + chunk(b"eXIf", MOTOROLA) + data[33:],
        lambda data: data[:-12] + chunk(b"eXIf", TURNED) + data[-12:],
        lambda data: data[:33] + chunk(b"tEXt", RAW + HEX) + data[33:],
        lambda data: data[:33] + chunk(b"zTXt", RAW + b"\0" + zlib.compress(HEX)) + data[33:],
    ],
    ids="before-pixels big-endian after-pixels text compressed-text".split(),
)
def test_a_png_is_turned_wherever_its_exif_data_are(place):
    content = place(png(np.ascontiguousarray(np.rot90(RGB))[:, :, ::-1]))
    assert np.array_equal(decode_record(content), RGB)
    assert np.array_equal(decode_photo(content, "a.png")[:, :, ::-1], RGB)


@pytest.mark.parametrize(
    "before", [b"", b"\xff\xe2\x03\xe8" + bytes(998), b"\xff\xfe\0\x04ab" * 50, b"\0\1" + b"\xff" * 3], ids=len
)
def test_a_jpeg_is_turned_wherever_its_exif_data_are(before):
    stored = encoded(Image.fromarray(np.ascontiguousarray(np.rot90(RGB))), "JPEG", quality=100, subsampling=0)
    exif = b"\xff\xe1" + struct.pack(">H", 8 + len(TURNED)) + b"Exif\0\0" + TURNED
    content = stored[:20] + before + exif + stored[20:]
    found = decode_record(content)
    assert np.abs(found.astype(int) - RGB).max() <= 4
    assert np.array_equal(decode_photo(content, "a.jpg")[:, :, ::-1], found)


@pytest.mark.parametrize("data", [b"", b"\n\n\nno digits", b"\nexif\n 2\nff"])
@pytest.mark.parametrize("name", [b"tEXt", b"zTXt", b"eXIf"])
def test_damaged_exif_data_of_a_png_do_not_matter(name, data):
    content = png(RGB[:, :, ::-1])
    content = content[:33] + chunk(name, (RAW if name != b"eXIf" else b"") + data) + content[33:]
    assert np.array_equal(decode_record(content), RGB)


@pytest.mark.parametrize("orientation", [0, 9, 255, 65535])
def test_an_orientation_that_is_none_turns_nothing(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(decode_record(encoded(Image.fromarray(RGB), exif=exif)), RGB)


def test_damaged_exif_data_do_not_matter():
    damaged = encoded(Image.fromarray(RGB), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f damaged")
    assert np.array_equal(decode_photo(damaged, "a.jpg"), decode_photo(encoded(Image.fromarray(RGB), "JPEG"), "a.jpg"))


@pytest.mark.parametrize("extension", [".jpg", ".png", ".bmp", ".webp", ".tif", ".ppm"])
def test_photos_have_the_pixels_of_records(extension):
    content = png(RGB, extension)
    assert np.array_equal(decode_photo(content, "a")[:, :, ::-1], decode_record(content))


def test_a_very_wide_image():
    wide = np.tile(RGB, (1, 500, 1))
    assert decode_photo(png(wide[:, :, ::-1]), "a.png").shape == (HEIGHT, 20000, 3)


JPEG = encoded(Image.fromarray(RGB), "JPEG")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a.jpg is empty"),
        (b"not an image at all", "a.jpg is not an image"),
        (JPEG[: len(JPEG) // 2], "a.jpg is a damaged image or one cut short"),
        (png(RGB)[:-200], "a.jpg is a damaged image or one cut short"),
        (png(RGB)[:60] + bytes(200) + png(RGB)[260:], "a.jpg is a damaged image or one cut short"),
        (encoded(Image.fromarray(RGB), "TIFF")[:-900], "a.jpg is a damaged image or one cut short"),
        (JPEG[:30], "a.jpg is a damaged image or one cut short"),
        (b"P5 x", "a.jpg is a damaged image or one cut short"),
        (b"RIFF\1\0\0\0WEBPVP8 ", "a.jpg is a damaged image or one cut short"),
        (encoded(Image.fromarray(RGB), "EPS"), "a.jpg is not an image"),  # Pillow would run Ghostscript
        (encoded(Image.fromarray(RGB), "DDS"), "a.jpg is not an image"),
        (encoded(Image.fromarray(RGB), "JPEG2000"), "a.jpg is not an image"),
        (png((RGB / 255).astype(np.float32), ".hdr"), "a.jpg is not an image .*: convert it to JPEG or PNG"),
        (jpeg_of_two_headers(40, 40, 30_000, 30_000, JPEG), "a.jpg has more than 64 million pixels"),
        (gif_of(10, 10, frame=(20_000, 20_000)), "a.jpg has more than 64 million pixels"),
        (gif_of(10, 10, frame=(10_000, 10_000)), "a.jpg has more than 64 million pixels"),
    ],
    ids="empty text jpeg png png-zeros tiff jpeg-start pnm webp eps dds jpeg-2000 hdr jpeg-2 gif-bomb gif".split(),
)
def test_what_is_no_image(content, message):
    with pytest.raises(UserError, match=message):
        decode_photo(content, "a.jpg")
    assert decode_record(content) is None


def test_files(tmp_path):
    for name in ("b.PNG", "a.jpg", "notes.txt", "c"):
        (tmp_path / name).write_bytes(png(RGB))
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "d.webp").write_bytes(encoded(Image.fromarray(RGB), "WEBP", lossless=True))
    source = open_source(str(tmp_path))
    found = [source.name(index) for index in range(len(source))]
    assert found == [str(tmp_path / name) for name in ("a.jpg", "b.PNG", "sub/d.webp")]
    assert np.array_equal(read_photo(found[2])[:, :, ::-1], RGB)
    with pytest.raises(UserError, match=r"cannot open .*none\.jpg: No such file"):
        read_photo(str(tmp_path / "none.jpg"))
    with pytest.raises(UserError, match=r"cannot open .*: it is a folder, not a file"):
        read_photo(str(tmp_path))


@pytest.mark.parametrize("shape", [(3, 300000), (300000, 3)], ids=str)
def test_a_thin_strip_is_fitted_without_being_enlarged_as_a_whole(monkeypatch, shape):
    strip = np.full((*shape, 3), 9, np.uint8)
    strip[tuple(slice(side // 2 - 1, side // 2 + 2) for side in shape)] = 200
    resize, sizes = cv2.resize, []
    monkeypatch.setattr(cv2, "resize", lambda image, size, **how: sizes.append(size) or resize(image, size, **how))
    found = fit(strip, (112, 96))
    assert found.shape == (112, 96, 3)
    assert found[56, 48, 0] > 190
    assert all(width * height < 100000 for width, height in sizes)
