"""Training sets: `property`, the identity table, plain lists of images, and the groups of records by identity."""

import numpy as np
import pytest
from harness import photo

from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError
from insightface_mx.formats.recordio import RecordFile, write_records
from insightface_mx.formats.training_set import (
    LazyImages,
    TrainingSet,
    group_by_label,
    identity_images,
    identity_ranges,
    image_records,
    read_property,
    record_range,
    verification_sets,
    write_lst,
)


def write(folder, records):
    """Write records of (label, payload) with the ids 0, 1, ...; returns the path of the .rec file."""
    path = str(folder / "some.rec")
    with write_records(path) as writer:
        for record_id, (label, payload) in enumerate(records):
            writer.write(record_id, label, payload)
    return path


def test_a_training_set(data_dir):
    data = TrainingSet(str(data_dir))
    assert data.property == (4, 32, 32)
    assert data.image_size == (32, 32)
    assert [ids.tolist() for ids in data.identities] == [list(range(1 + 6 * i, 7 + 6 * i)) for i in range(4)]
    assert data.image(9) == photo(1, 2)
    assert verification_sets(str(data_dir)) == [str(data_dir / "toy.bin")]


def test_identities_of_a_plain_list_are_its_labels(tmp_path):
    records = RecordFile(write(tmp_path, [(label, b"image") for label in (2, 0, 2, 5, 0, 2)]))
    assert [ids.tolist() for ids in identity_images(records)] == [[1, 4], [0, 2, 5], [3]]


def test_group_by_label():
    assert group_by_label([], []) == []
    groups = group_by_label([9, 4, 7, 5], [1.0, 0.0, 1.0, np.nan])
    assert [ids.tolist() for ids in groups] == [[4], [9, 7], [5]]
    assert {ids.dtype for ids in groups} == {np.dtype(np.int64)}


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([1, 4], range(1, 4)),
        ([5, 5], range(5, 5)),
        ([1, 9], range(1, 9)),
        ([1, 10], None),
        ([0, 4], None),
        ([4, 3], None),
        ([np.nan, 4], None),
        ([1, np.inf], None),
        ([1], None),
    ],
)
def test_record_range(labels, expected):
    assert record_range(np.array(labels, np.float32), 9) == expected


def test_lazy_images_are_read_only_when_they_are_needed():
    read = []
    images = LazyImages(lambda record_id: read.append(record_id) or b"%d" % record_id, [4, 2])
    assert len(images) == 2
    assert read == []
    assert list(images) == [b"4", b"2"]
    assert read == [4, 2]


def test_write_lst(tmp_path):
    write_lst(str(tmp_path / "train.lst"), [("a/b.png", 0), ("\udcff.png", 1)])
    assert (tmp_path / "train.lst").read_bytes() == b"1\ta/b.png\t0\n1\t\xff.png\t1\n"


def test_identity_table(data_dir):
    records = RecordFile(str(data_dir / "train.rec"))
    assert len(records) == 1 + 24 + 4
    assert identity_ranges(records).tolist() == [[1, 7], [7, 13], [13, 19], [19, 25]]
    assert image_records(records).tolist() == list(range(1, 25))
    assert [records.read(i)[0][0] for i in (1, 6, 7, 24)] == [0, 0, 1, 3]


def test_mxnet_reads_our_training_set(data_dir):
    records = mx.recordio.MXIndexedRecordIO(str(data_dir / "train.idx"), str(data_dir / "train.rec"), "r")
    header, _ = mx.recordio.unpack(records.read_idx(0))
    assert header.flag == 2
    assert header.label.tolist() == [25, 29]
    header, image = mx.recordio.unpack_img(records.read_idx(7))
    assert header.label == 1
    assert image.shape == (32, 32, 3)


def test_a_plain_list_uses_every_record(tmp_path):
    records = RecordFile(write(tmp_path, [(5, b"a"), (6, b"b")]))
    assert image_records(records).tolist() == [0, 1]


def test_images_filter(tmp_path):
    images = [([6, 8], b""), *[(0, b"x")] * 3, *[(1, b"x")] * 2, ([1, 4], b""), ([4, 6], b"")]
    records = RecordFile(write(tmp_path, images))
    assert image_records(records, 3).tolist() == [1, 2, 3]
    with pytest.raises(UserError, match="no identity has 4 images"):
        image_records(records, 4)


@pytest.mark.parametrize("label", [[50, 60], [0, 3], [4, 3]])
def test_identity_table_outside_the_file(tmp_path, label):
    records = RecordFile(write(tmp_path, [(label, b""), (0, b"x"), (1, b"x")]))
    with pytest.raises(UserError, match="record 0 names"):
        image_records(records)


@pytest.mark.parametrize("text", ["", "5", "5,112", "0,112,112", "a,112,112", "5,112,112,3"])
def test_a_property_that_cannot_be_used(tmp_path, text):
    (tmp_path / "property").write_text(text)
    with pytest.raises(UserError, match="property"):
        read_property(str(tmp_path))


def test_property(tmp_path):
    (tmp_path / "property").write_text("85742,112,96\n")
    assert read_property(str(tmp_path)) == (85742, 112, 96)
    with pytest.raises(UserError, match="does not exist"):
        read_property(str(tmp_path / "none"))
