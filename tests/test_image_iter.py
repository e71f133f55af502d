"""Batches: their images, classes, order and augmentation, and what is refused."""

import cv2
import numpy as np
import pytest

from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError
from insightface_mx.formats.training_set import write_training_set
from insightface_mx.image_iter import FaceImageIter
from insightface_mx.photos.decode import decode_face, fit


def open_iter(data_dir, **options):
    options = {"batch_size": 5, "data_shape": (3, 32, 32), "path_imgrec": str(data_dir / "train.rec"), **options}
    return FaceImageIter(**options)


def epoch(data):
    """Return (images, classes, record ids) of every batch of an epoch."""
    return [(b.data[0].asnumpy(), b.label[0].asnumpy(), b.index.tolist()) for b in data]


def equal(first, second):
    return len(first) == len(second) > 0 and all(
        np.array_equal(a, b) for one, two in zip(first, second) for a, b in zip(one, two)
    )


def test_batches_are_the_images(data_dir):
    batches = epoch(open_iter(data_dir))
    assert len(batches) == 4  # 24 images: the last 4 make no batch
    records = mx.recordio.MXIndexedRecordIO(str(data_dir / "train.idx"), str(data_dir / "train.rec"), "r")
    for data, labels, record_ids in batches:
        assert data.shape == (5, 3, 32, 32)
        for image, label, record_id in zip(data, labels, record_ids):
            header, encoded = mx.recordio.unpack(records.read_idx(record_id))
            expected = mx.image.imdecode(encoded).asnumpy().transpose(2, 0, 1)  # RGB
            assert label == header.label
            assert np.array_equal(image, expected)
    assert [record_id for batch in batches for record_id in batch[2]] == list(range(1, 21))


def test_shapes_named_for_module(data_dir):
    data = open_iter(data_dir, data_name="x", label_name="y")
    assert [tuple(d) for d in data.provide_data] == [("x", (5, 3, 32, 32))]
    assert [tuple(d) for d in data.provide_label] == [("y", (5,))]


def test_order_follows_from_the_seed_and_the_epoch_alone(data_dir):
    options = {"shuffle": True, "rand_mirror": True, "cutoff": 9, "color_jittering": 2, "seed": 3}
    one, two = open_iter(data_dir, workers=1, **options), open_iter(data_dir, workers=3, **options)
    first, second = [], []
    for _ in range(2):
        first.append(epoch(one))
        second.append(epoch(two))
        one.reset()
        two.reset()
    assert equal(first[0], second[0])
    assert equal(first[1], second[1])
    assert [b[2] for b in first[0]] != [b[2] for b in first[1]]
    assert not equal(first[0], epoch(open_iter(data_dir, **{**options, "seed": 4})))


def test_start_in_the_middle_of_an_epoch(data_dir):
    options = {"shuffle": True, "rand_mirror": True, "color_jittering": 1, "seed": 3}
    from_the_start = open_iter(data_dir, **options)
    from_the_start.reset()
    expected = epoch(from_the_start)
    data = open_iter(data_dir, **options)
    data.start(epoch=1, batch=2)
    assert equal(epoch(data), expected[2:])
    assert (data.epoch, data.batch) == (1, 4)


def test_a_shuffled_epoch_has_every_image_once(data_dir):
    record_ids = [n for b in epoch(open_iter(data_dir, batch_size=4, shuffle=True, seed=1)) for n in b[2]]
    assert record_ids != sorted(record_ids)
    assert sorted(record_ids) == list(range(1, 25))


def test_mean_and_aug_list(data_dir):
    plain = epoch(open_iter(data_dir))
    shifted = epoch(open_iter(data_dir, mean=[1, 2, 3], aug_list=[lambda image: image[::-1]]))
    expected = plain[0][0][:, :, ::-1] - np.float32([1, 2, 3]).reshape(3, 1, 1)
    assert np.array_equal(shifted[0][0], expected)


def test_functions_of_aug_list_may_keep_their_images(tmp_path):
    shades = [np.full((32, 32, 3), shade, np.uint8) for shade in range(0, 250, 10)]
    write_training_set(str(tmp_path), [[cv2.imencode(".jpg", image)[1].tobytes()] for image in shades], (32, 32))
    kept = []
    epoch(open_iter(tmp_path, workers=1, aug_list=[lambda image: kept.append(image) or image]))
    assert np.array_equal(kept, shades)


def test_label_outside_property(data_dir):
    data = open_iter(data_dir, num_classes=2)
    with pytest.raises(UserError, match=r"record 13 has class 2, but `property` says there are 2"):
        epoch(data)


def test_fewer_images_than_a_batch(data_dir):
    with pytest.raises(UserError, match="24 usable images, fewer than one batch of 25: choose smaller batches"):
        open_iter(data_dir, batch_size=25)


def test_a_record_that_is_no_image(tmp_path):
    path = str(tmp_path / "bad.rec")
    file = mx.recordio.MXIndexedRecordIO(str(tmp_path / "bad.idx"), path, "w")
    for record_id, payload in enumerate(
        [cv2.imencode(".png", np.zeros((32, 32, 3), np.uint8))[1].tobytes(), b"no", b""]
    ):
        file.write_idx(record_id, mx.recordio.pack(mx.recordio.IRHeader(0, 0, record_id, 0), payload))
    file.close()
    data = FaceImageIter(1, (3, 32, 32), path)
    assert data.next().data[0].shape == (1, 3, 32, 32)
    for record_id in (1, 2):
        with pytest.raises(UserError, match=f"record {record_id} is not an image"):
            data.next()


def test_formats_and_sizes():
    image = np.random.RandomState(0).randint(0, 256, (20, 30, 3)).astype(np.uint8)
    png = cv2.imencode(".png", image)[1].tobytes()
    assert np.array_equal(decode_face(png, (20, 30)), image[:, :, ::-1])
    assert decode_face(png, (20, 20)).tolist() == image[:, 5:25, ::-1].tolist()
    grey = cv2.imencode(".pgm", image[:, :, 0])[1].tobytes()
    assert np.array_equal(decode_face(grey, (20, 30)), np.repeat(image[:, :, :1], 3, 2))
    for size in ((40, 40), (10, 12), (7, 31)):
        assert fit(image, size).shape == (*size, 3)
    assert decode_face(b"", (8, 8)) is None
    assert decode_face(b"junk", (8, 8)) is None
