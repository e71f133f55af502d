"""Which records are images, and whose: by their labels, with and without an identity table."""

import struct

import numpy as np
import pytest

from insightface_mx.base.errors import UserError
from insightface_mx.formats.face_records import FaceRecords, disagreement, group_by_label, is_class
from insightface_mx.formats.identity_table import IdentityTable
from insightface_mx.formats.recordio import write_records

IMAGE = b"image"
SET = [([6, 8], b""), *[(0, IMAGE)] * 3, *[(1, IMAGE)] * 2, ([1, 4], b""), ([4, 6], b"")]


def write(folder, records):
    path = str(folder / "some.rec")
    with write_records(path) as writer:
        for record_id, (label, payload) in enumerate(records):
            writer.write(record_id, label, payload)
    return FaceRecords(path)


def spoil(records, record_id, content, at=0):
    with open(records.path, "r+b") as file:
        file.seek(int(records.offsets(np.array([record_id]))[0]) + at)
        file.write(content)
    return records


def groups(records):
    labels, images, _ = records.identities
    return dict(zip(labels.tolist(), [ids.tolist() for ids in images]))


def test_a_set_and_a_plain_list(tmp_path):
    records = write(tmp_path, SET)
    assert records.image_ids().tolist() == [1, 2, 3, 4, 5]
    assert groups(records) == {0: [1, 2, 3], 1: [4, 5]}
    records = write(tmp_path, [(label, IMAGE) for label in (2, 0, 2, 5, 0, 2)])
    assert records.image_ids().tolist() == [0, 1, 2, 3, 4, 5]
    assert groups(records) == {0: [1, 4], 2: [0, 2, 5], 5: [3]}


def test_training_without_a_filter_reads_no_labels(tmp_path, monkeypatch):
    monkeypatch.setattr(FaceRecords, "_read_classes", None)
    assert write(tmp_path, SET).image_ids().tolist() == [1, 2, 3, 4, 5]
    assert write(tmp_path, [(0, IMAGE)] * 3).image_ids().tolist() == [0, 1, 2]


def test_images_are_filtered_by_their_labels(tmp_path):
    """The table says that identity 0 has two images, and 1 three."""
    records = write(tmp_path, [*SET[:6], ([1, 3], b""), ([3, 6], b"")])
    assert records.image_ids(1).tolist() == [1, 2, 3, 4, 5]
    assert records.image_ids(3).tolist() == [1, 2, 3]
    with pytest.raises(UserError, match="no identity has 4 images; lower --images-filter"):
        records.image_ids(4)
    plain = write(tmp_path, [(label, IMAGE) for label in (2, 0, 2, 5, 0, 2)])
    assert plain.image_ids(2).tolist() == [0, 1, 2, 4, 5]
    assert plain.image_ids(3).tolist() == [0, 2, 5]


def test_images_that_the_table_does_not_name_are_found(tmp_path, caplog):
    records = write(tmp_path, [*SET[:6], ([1, 3], b""), ([4, 6], b"")])
    assert records.image_ids().tolist() == [1, 2, 3, 4, 5]
    assert groups(records) == {0: [1, 2, 3], 1: [4, 5]}
    assert "2 ranges of images, their labels make 2 identities" in caplog.text


@pytest.mark.parametrize(
    ("content", "at", "reason"),
    [
        (b"junk", 0, "no valid record 2"),
        (struct.pack("<f", float("nan")), 12, "record 2 has the label nan, which is no class"),
        (struct.pack("<f", float("inf")), 12, "record 2 has the label inf, which is no class"),
        (struct.pack("<f", -1), 12, "record 2 has the label -1, which is no class"),
        (struct.pack("<f", 1e30), 12, "record 2 has the label 1e+30, which is no class"),
        (struct.pack("<f", 0.5), 12, "record 2 has the label 0.5, which is no class"),
        (struct.pack("<I", 24), 4, "record 2 is neither an image nor an identity's record"),
        (struct.pack("<I", 20), 4, "no valid record 2"),
        (struct.pack("<I", 1 << 31), 8, "no valid record 2"),
    ],
)
def test_records_that_are_nobodys_image(tmp_path, caplog, content, at, reason):
    """They stay in the list for training, which skips and counts them."""
    records = spoil(write(tmp_path, SET), 2, content, at)
    assert records.image_ids().tolist() == [1, 2, 3, 4, 5]
    assert groups(records) == {0: [1, 3], 1: [4, 5]}
    assert records.identities.unusable.tolist() == [2]
    assert reason in records.problem(2)
    (message,) = caplog.messages
    assert message == f"1 records are nobody's image and left out; the first: {records.problem(2)}"
    assert records.problem(1) == ""


@pytest.mark.parametrize("damage", [(b"junk", 0), (struct.pack("<I", 20), 4), (struct.pack("<I", 0), 4)])
def test_record_0_is_damaged(tmp_path, damage):
    """Identity records are known without it: they have labels and no payload."""
    records = spoil(write(tmp_path, SET), 0, *damage)
    assert groups(records) == {0: [1, 2, 3], 1: [4, 5]}
    assert records.identities.unusable.tolist() == [0]
    assert records.image_ids(2).tolist() == [1, 2, 3, 4, 5]


def test_which_labels_are_classes():
    labels = np.array([0, 1, (1 << 24) - 1, 1 << 24, -1, 0.5, np.nan, np.inf, -np.inf, 1e30], np.float32)
    assert is_class(labels).tolist() == [True] * 3 + [False] * 7


def test_group_by_label():
    labels, images = group_by_label(np.array([9, 4, 7, 5]), np.array([1, 0, 1, 30]))
    assert labels.tolist() == [0, 1, 30]
    assert [ids.tolist() for ids in images] == [[4], [9, 7], [5]]
    assert group_by_label(np.array([], np.int64), np.array([]))[1] == []


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        ([[1, 4], [4, 6]], ""),
        ([[4, 6], [1, 4]], ""),
        ([[1, 4], [4, 4], [4, 6]], ""),
        ([[1, 6]], "the identity table has record 4 in a range of images that have another label"),
        ([[1, 3], [3, 6]], "the identity table has record 4 in a range of images that have another label"),
        ([[1, 2], [2, 4], [4, 6]], "the identity table has 3 ranges of images, their labels make 2 identities"),
        ([[4, 6]], "the identity table has 1 ranges of images, their labels make 2 identities"),
    ],
)
def test_disagreement(ranges, expected):
    table = IdentityTable(np.array([0]), np.array(ranges), 0 * np.array(ranges), 0, "")
    assert disagreement(table, [np.array([1, 2, 3]), np.array([4, 5])]) == expected
