"""Image files of every kind, and what is said of those that are none."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from insightface_mx.base.errors import UserError
from insightface_mx.photos.decode import decode_photo, decode_record, read_photo
from insightface_mx.photos.sources import open_source

HEIGHT, WIDTH = 24, 40
RGB = np.random.RandomState(3).randint(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)


def encoded(image, file_format="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    return stream.getvalue()


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
    found = decode_photo(encoded(stored, file_format, exif=exif, **options), "a.png")[:, :, ::-1].astype(int)
    assert np.abs(found - RGB).max() <= (4 if file_format == "JPEG" else 0)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_data_do_not_matter():
    damaged = encoded(Image.fromarray(RGB), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f damaged")
    assert np.array_equal(decode_photo(damaged, "a.jpg"), decode_photo(encoded(Image.fromarray(RGB), "JPEG"), "a.jpg"))


@pytest.mark.parametrize("extension", [".jpg", ".png", ".bmp", ".webp", ".tif", ".ppm"])
def test_photos_have_the_pixels_of_records(extension):
    content = png(RGB, extension)
    assert np.array_equal(decode_photo(content, "a")[:, :, ::-1], decode_record(content))


def test_a_format_that_opencv_alone_knows():
    content = png((RGB / 255).astype(np.float32), ".hdr")
    assert np.abs(decode_photo(content, "a.hdr").astype(int) - RGB).max() <= 4


def test_a_very_wide_image():
    wide = np.tile(RGB, (1, 500, 1))
    assert decode_photo(png(wide[:, :, ::-1]), "a.png").shape == (HEIGHT, 20000, 3)


JPEG = encoded(Image.fromarray(RGB), "JPEG")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a.jpg is not an image"),
        (b"not an image at all", "a.jpg is not an image"),
        (JPEG[: len(JPEG) // 2], "a.jpg is a damaged image or one cut short"),
        (png(RGB)[:-200], "a.jpg is a damaged image or one cut short"),
        (png(RGB)[:60] + bytes(200) + png(RGB)[260:], "a.jpg is a damaged image or one cut short"),
        (encoded(Image.fromarray(RGB), "TIFF")[:-900], "a.jpg is a damaged image or one cut short"),
        (encoded(Image.fromarray(RGB), "EPS"), "a.jpg is not an image"),  # Pillow would run Ghostscript
    ],
    ids="empty text jpeg png png-zeros tiff eps".split(),
)
def test_what_is_no_image(content, message):
    with pytest.raises(UserError, match=message):
        decode_photo(content, "a.jpg")


def claiming(width, height):
    """A PNG file whose header claims this size."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + png(RGB)[33:]


@pytest.mark.parametrize("width", [9000, 60000])
def test_a_file_that_claims_to_be_enormous(width):
    with pytest.raises(UserError, match=r"a\.png .*(9000x8000 pixels, more than 64 million|is too large)"):
        decode_photo(claiming(width, 8000), "a.png")


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
    with pytest.raises(UserError, match=r"cannot open .*: Is a directory"):
        read_photo(str(tmp_path))
