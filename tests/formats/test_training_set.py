"""Training sets: reading and writing them, and `property`."""

import os

import pytest
from harness import photo

from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError
from insightface_mx.formats.training_set import (
    LazyImages,
    TrainingSet,
    read_property,
    verification_sets,
    write_lst,
    write_training_set,
)


def test_a_training_set(data_dir):
    data = TrainingSet(str(data_dir))
    assert data.property == (4, 32, 32)
    assert data.image_size == (32, 32)
    assert [ids.tolist() for ids in data.identities] == [list(range(1 + 6 * i, 7 + 6 * i)) for i in range(4)]
    assert data.labels.tolist() == [0, 1, 2, 3]
    assert data.unusable == []
    assert data.image(9) == photo(1, 2)
    assert verification_sets(str(data_dir)) == [str(data_dir / "toy.bin")]


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


def test_mxnet_reads_our_training_set(data_dir):
    records = mx.recordio.MXIndexedRecordIO(str(data_dir / "train.idx"), str(data_dir / "train.rec"), "r")
    header, _ = mx.recordio.unpack(records.read_idx(0))
    assert header.flag == 2
    assert header.label.tolist() == [25, 29]
    header, image = mx.recordio.unpack_img(records.read_idx(7))
    assert header.label == 1
    assert image.shape == (32, 32, 3)


@pytest.mark.parametrize(
    "text",
    [
        *("", "\n", "5", "5,112", "0,112,112", "a,112,112", "5,112,112,3", "5,112,112.5", "-5,112,112", "4\n,32,32"),
        *("\u00b2,112,112", "\u0663,112,112", "9" * 5000 + ",112,112", "\x00", "4,32,32\x004"),
        *("200000000,112,112", "16777217,112,112", "5,4097,112", "5,112,999999999"),
    ],
)
def test_a_property_that_cannot_be_used(tmp_path, text):
    (tmp_path / "property").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="property") as error:
        read_property(str(tmp_path))
    assert len(str(error.value)) < 300 + len(str(tmp_path))


@pytest.mark.parametrize(
    "content",
    [
        *(b"85742,112,96", b"85742,112,96\n", b"85742,112,96\r\n", b" 85742 , 112,\t96 \n", b"\n85742,112,96\n"),
        *(b"\xef\xbb\xbf85742,112,96\n", b"85742,112,96\n5822653\n", b"85742,112,96\r\n5822653\r\nx\r\n\r\n"),
        *(b"85742,112,96\n" + b"x" * 10**6, b"85742,112,96\n\xff\xfe", b"85742,112,96\r5822653"),
    ],
)
def test_property(tmp_path, content):
    """The first line counts; RecBuilder of insightface writes the number of images to a second one."""
    (tmp_path / "property").write_bytes(content)
    assert read_property(str(tmp_path)) == (85742, 112, 96)


def test_property_is_no_file(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_property(str(tmp_path / "none"))
    with pytest.raises(UserError, match="No such file"):
        read_property(str(tmp_path))
    os.mkfifo(tmp_path / "property")
    with pytest.raises(UserError, match="it is a pipe, not a file"):
        read_property(str(tmp_path))
    os.remove(tmp_path / "property")
    os.symlink("/dev/zero", tmp_path / "property")
    with pytest.raises(UserError, match="it is a device, not a file"):
        read_property(str(tmp_path))


def test_ids_that_labels_cannot_hold_make_a_plain_list(tmp_path, monkeypatch, caplog):
    """10 images and 3 identities need the ids 0 to 13, and record 0 names 14."""
    identities = [[photo(0, i) for i in range(5)], [photo(1, i) for i in range(3)], [photo(2, i) for i in range(2)]]
    for name, limit in (("table", 14), ("plain", 13)):
        monkeypatch.setattr("insightface_mx.formats.training_set.LARGEST_EXACT", limit)
        write_training_set(str(tmp_path / name), identities, (32, 32))
    assert caplog.messages == [
        f"{tmp_path}/plain/train.rec has no identity table: labels hold no ids above 13 exactly, and there would be 14 "
        "records. The original trains on it, too, but not with --images-filter or triplets"
    ]
    data = TrainingSet(str(tmp_path / "plain"))
    assert [ids.tolist() for ids in data.identities] == [[0, 1, 2, 3, 4], [5, 6, 7], [8, 9]]
    assert [data.image(i) for i in (0, 5, 9)] == [photo(0, 0), photo(1, 0), photo(2, 1)]
    records = mx.recordio.MXIndexedRecordIO(f"{tmp_path}/plain/train.idx", f"{tmp_path}/plain/train.rec", "r")
    assert [mx.recordio.unpack(records.read_idx(i))[0].label for i in records.keys] == [0] * 5 + [1] * 3 + [2] * 2
    assert mx.recordio.unpack(records.read_idx(0))[0].flag == 0
    assert TrainingSet(str(tmp_path / "table")).records.table.ranges.tolist() == [[1, 6], [6, 9], [9, 11]]


def test_more_identities_than_labels(tmp_path):
    with pytest.raises(UserError, match="16777217 identities, but labels tell only 16777216 apart"):
        write_training_set(str(tmp_path), [[]] * 16777217, (32, 32))
    assert os.listdir(tmp_path) == []
