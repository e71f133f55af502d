"""Training sets with damaged records: which are skipped, what takes their place, and when it is too many."""

import os
import struct
import sys

import cv2
import numpy as np
import pytest

from insightface_mx.base.errors import UserError
from insightface_mx.formats.training_set import write_training_set
from insightface_mx.image_iter import FaceImageIter
from insightface_mx.photos import decode

IDENTITIES, PHOTOS = 40, 10
IMAGES = IDENTITIES * PHOTOS


@pytest.fixture
def path(tmp_path):
    """Write a set of 400 images whose pixels all have the value of the record id, modulo 256."""
    images = [np.full((8, 8, 3), record_id % 256, np.uint8) for record_id in range(1, IMAGES + 1)]
    encoded = [cv2.imencode(".png", image)[1].tobytes() for image in images]
    write_training_set(str(tmp_path), [encoded[i : i + PHOTOS] for i in range(0, IMAGES, PHOTOS)], (8, 8))
    return str(tmp_path / "train.rec")


def spoil(path, record_id, content, at=0):
    """Overwrite bytes of a record from `at` on: 0 is its magic number, 8 its header, 12 the label, 32 the payload."""
    offsets = np.loadtxt(path.replace(".rec", ".idx"), dtype=np.int64)[:, 1]
    with open(path, "r+b") as file:
        file.seek(offsets[record_id] + at)
        file.write(content)


def spoil_in_four_ways(path):
    """Damage 1 % of the images: a wrong magic number, a length beyond the end of the file, no class, no image."""
    spoil(path, 5, b"junk")
    spoil(path, 110, struct.pack("<I", (1 << 29) - 1), 4)
    spoil(path, 111, struct.pack("<f", float("nan")), 12)
    spoil(path, 400, b"no image", 32)
    return {5, 110, 111, 400}


def open_iter(path, **options):
    return FaceImageIter(
        **{"batch_size": 20, "data_shape": (3, 8, 8), "path_imgrec": path, "num_classes": IDENTITIES, **options}
    )


def epochs(data, count=2):
    batches = []
    for _ in range(count):
        batches += [(batch.data[0].asnumpy(), batch.label[0].asnumpy(), batch.index) for batch in data]
        data.reset()
    return batches


def test_one_percent_is_skipped_counted_and_named_once(path, caplog):
    bad = spoil_in_four_ways(path)
    data = open_iter(path)
    batches = epochs(data)
    assert len(batches) == 2 * IMAGES // 20
    assert set(data.bad_records) == bad
    reasons = {5: "no valid record 5", 110: "record 110", 111: "class nan", 400: "not an image"}
    for record_id, reason in reasons.items():
        assert reason in data.bad_records[record_id]
        assert sum(data.bad_records[record_id] in message for message in caplog.messages) == 1
    assert "4 so far" in caplog.text


def test_stand_ins_are_neighbours_with_their_own_class(path):
    bad = spoil_in_four_ways(path)
    shown = {}
    for images, labels, record_ids in epochs(open_iter(path), 1):
        for image, label, record_id in zip(images, labels, record_ids.tolist()):
            assert image.min() == image.max()
            shown[record_id] = int(image[0, 0, 0]), int(label)
    for record_id, (value, label) in shown.items():
        stand_in = {5: 6, 110: 109, 111: 112, 400: 399}.get(record_id, record_id)
        assert (value, label) == (stand_in % 256, (stand_in - 1) // PHOTOS)
    assert len(bad & set(shown)) == 4


def test_the_same_whatever_the_workers_and_from_the_middle(path):
    spoil_in_four_ways(path)
    options = {"shuffle": True, "rand_mirror": True, "color_jittering": 1, "cutoff": 3, "seed": 2}
    one = epochs(open_iter(path, workers=1, **options))
    three = epochs(open_iter(path, workers=3, **options))
    middle = open_iter(path, **options)
    middle.start(0, 7)
    for expected, found in ((one, three), (one[7:20], epochs(middle, 1))):
        assert len(expected) == len(found) >= 13
        for batch, other in zip(expected, found):
            for array, same in zip(batch, other):
                np.testing.assert_array_equal(array, same)


def test_more_than_one_percent_stops(path):
    spoil_in_four_ways(path)
    spoil(path, 200, b"no image", 32)
    with pytest.raises(UserError, match=r"5 of 400 images cannot be used, more than 1%.*--repair.*record"):
        epochs(open_iter(path))


def test_a_label_between_two_classes_is_bad(path):
    spoil(path, 30, struct.pack("<f", 1.5), 12)
    with pytest.raises(UserError, match=r"record 30 has the label 1\.5, which is no class"):
        epochs(open_iter(path, on_bad_record="stop"))


def test_stop(path):
    spoil(path, 30, b"no image", 32)
    with pytest.raises(UserError, match="record 30 is not an image"):
        epochs(open_iter(path, on_bad_record="stop"))


def test_many_neighbours_are_bad(path):
    for record_id in range(50, 60):
        spoil(path, record_id, b"no image", 32)
    data = open_iter(path, batch_size=1)
    data.start(0, 54)
    with pytest.raises(UserError, match="too many damaged records around 55"):
        data.next()


def test_a_damaged_identity_record_costs_no_image(tmp_path, caplog):
    encoded = cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    write_training_set(str(tmp_path), [[encoded] * 2] * 100, (8, 8))
    path = str(tmp_path / "train.rec")
    spoil(path, 201 + 3, struct.pack("<f", 1e9), 32)
    data = open_iter(path, num_classes=100)
    assert data.images.tolist() == list(range(1, 201))
    assert [images.tolist() for images in data.records.identities.images] == [[i, i + 1] for i in range(1, 201, 2)]
    assert caplog.text.count("record 204 of the identity table names no images of the file (1 are bad)") == 1
    with pytest.raises(UserError, match=r"record 204 .*--repair"):
        open_iter(path, on_bad_record="stop")
    spoil(path, 201 + 50, b"junk")
    with pytest.raises(UserError, match="record 204"):
        open_iter(path)


@pytest.mark.parametrize("settings", [[], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]], ids=["baseline", "progressive"])
def test_a_damaged_jpeg_is_bad_with_and_without_simplejpeg(monkeypatch, settings):
    image = cv2.GaussianBlur(np.random.RandomState(0).randint(0, 256, (40, 40, 3)).astype(np.uint8), (5, 5), 0)
    encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95, *settings])[1].tobytes()
    decoded = []
    for package in (decode.simplejpeg, None):
        monkeypatch.setattr(decode, "simplejpeg", package)
        decoded.append(decode.decode_face(encoded, (40, 40)))
        for length in (0, 2, 100, len(encoded) // 2):
            assert decode.decode_face(encoded[:length], (40, 40)) is None
    assert decoded[0].shape == (40, 40, 3)
    assert np.array_equal(*decoded)


def test_a_buffer_is_used_again_once_nobody_holds_it(path):
    data = open_iter(path, batch_size=5)
    kept = data.next()
    before = kept.data[0].asnumpy()
    addresses = set()
    for _ in range(40):
        addresses.add(data.next().data[0].asnumpy().ctypes.data)
    assert np.array_equal(kept.data[0].asnumpy(), before)
    data.reset()
    for _ in range(3):
        for _ in data:
            pass
        data.reset()
    assert len(data._buffers._free) <= 8
    assert sys.getsizeof(data._buffers._free) < 1000
    assert os.path.exists(path)
