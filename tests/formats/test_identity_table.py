"""The identity table as it is stored: ranges, damage, and ids that float32 rounds."""

import numpy as np
import pytest

from insightface_mx.base.errors import UserError
from insightface_mx.formats.face_records import FaceRecords, disagreement
from insightface_mx.formats.identity_table import IdentityTable, read_table
from insightface_mx.formats.recordio import write_records


def write(folder, records):
    """Write records (label, payload) by id, or in a list with the ids 0, 1 ...; returns FaceRecords."""
    path = str(folder / "some.rec")
    with write_records(path) as writer:
        for record_id, (label, payload) in records.items() if isinstance(records, dict) else enumerate(records):
            writer.write(record_id, np.float32(label) if isinstance(label, list) else label, payload)
    return FaceRecords(path)


IMAGE = b"image"
SET = [([6, 8], b""), *[(0, IMAGE)] * 3, *[(1, IMAGE)] * 2, ([1, 4], b""), ([4, 6], b"")]


def changed(**records):
    """The set with some records, r0 to r7, changed."""
    return [records.get(f"r{record_id}", record) for record_id, record in enumerate(SET)]


def test_a_set(tmp_path):
    records = write(tmp_path, SET)
    table = read_table(records)
    assert table.record_ids.tolist() == [0, 6, 7]
    assert table.ranges.tolist() == [[1, 4], [4, 6]]
    assert table.slack.tolist() == [[0, 0], [0, 0]]
    assert (table.bad, table.problem, table.size) == (0, "", 2)
    assert table.covers(records.record_ids)
    assert not table.covers(np.arange(1, 9))
    assert not table.covers(np.arange(9))


@pytest.mark.parametrize(
    "records",
    [
        [(5, IMAGE), (6, IMAGE)],
        [(5, b""), (6, IMAGE)],
        [([1], b""), (6, IMAGE)],
        [([0, 1], IMAGE), ([0, 0], IMAGE)],
        [([1, 2], IMAGE), ([1, 2], IMAGE)],
        [([1, 2], IMAGE), (0, b"")],
        [([5, 0], IMAGE), ([5, 0], IMAGE)],
        [([50, 60], IMAGE), ([50, 60], IMAGE)],
        [([float("nan"), float("inf")], IMAGE), (0, IMAGE)],
        {1: (0, IMAGE), 2: (1, IMAGE)},
        {1: ([2, 3], b""), 2: ([1, 2], b"")},
    ],
)
def test_a_list_without_a_table(tmp_path, records):
    assert read_table(write(tmp_path, records)) is None


@pytest.mark.parametrize("payload", [b"", b"not empty"])
def test_record_0_may_have_a_payload_if_those_that_it_names_have_none(tmp_path, payload):
    assert read_table(write(tmp_path, changed(r0=([6, 8], payload)))).record_ids.tolist() == [0, 6, 7]


def test_identity_records_may_have_a_payload(tmp_path):
    table = read_table(write(tmp_path, changed(r6=([1, 4], b"not empty"))))
    assert table.record_ids.tolist() == [0, 6, 7]
    assert table.bad == 0


@pytest.mark.parametrize(
    "label",
    [[50, 60], [0, 3], [4, 3], [6, 6], [6, 10], [-1, 4], [1e30, 1e30], [float("nan")] * 2, [6, float("inf")], [9, 9]],
)
def test_record_0_names_nothing_of_the_file(tmp_path, label):
    records = write(tmp_path, changed(r0=(label, b"")))
    if np.isnan(label[1]):
        assert read_table(records) is None
        return
    with pytest.raises(UserError, match=r"record 0 names the records .* --repair") as error:
        read_table(records)
    assert len(str(error.value)) < 400 + len(str(tmp_path))


@pytest.mark.parametrize(
    ("records", "bad", "problem"),
    [
        ({"r6": ([1, 3], b"")}, 0, ""),
        ({"r6": ([1, 1], b"")}, 0, ""),
        ({"r6": ([4, 6], b""), "r7": ([1, 4], b"")}, 0, ""),
        ({"r6": ([1, 6], b"")}, 1, "record 7 of the identity table names images that another one also names"),
        ({"r7": ([3, 6], b"")}, 1, "record 7 of the identity table names images that another one also names"),
        ({"r6": ([0, 4], b"")}, 1, "record 6 of the identity table names no images of the file"),
        ({"r6": ([1, 10], b"")}, 1, "record 6 of the identity table names no images of the file"),
        ({"r6": ([4, 1], b"")}, 1, "record 6 of the identity table names no images of the file"),
        ({"r6": ([float("nan"), 4], b"")}, 1, "record 6 of the identity table names no images of the file"),
        ({"r6": (1, b"")}, 1, "record 6 of the identity table names no images of the file"),
        ({"r0": ([5, 8], b"")}, 1, "record 5 of the identity table names no images of the file"),
    ],
)
def test_ranges_that_cannot_be(tmp_path, records, bad, problem):
    table = read_table(write(tmp_path, changed(**records)))
    assert table.bad == bad
    assert table.problem.endswith(problem)
    assert 5 not in table.record_ids


def test_an_identity_record_that_the_index_lacks(tmp_path):
    records = dict(enumerate(changed(r0=([6, 9], b""))))
    records[8] = records.pop(7)
    table = read_table(write(tmp_path, records))
    assert table.record_ids.tolist() == [0, 6, 8]
    assert table.bad == 1
    assert table.problem.endswith("record 0 names 1 identity records that are not in the index")


def test_thousands_of_ranges_of_all_images_are_refused_at_once(tmp_path):
    """Their sum is 4 * 10^8 images."""
    count = 20000
    images = [(identity, IMAGE) for identity in range(count)]
    path = write(tmp_path, [([count + 1, 2 * count + 1], b""), *images, *[([1, count + 1], b"")] * count])
    table = read_table(path)
    assert table.bad == count - 1
    with pytest.raises(UserError, match=r"record 20002 .* images that another one also names \(19999 are bad\)"):
        path.image_ids()


LARGE = 1 << 24


def large(first_of_second, end):
    """Images of two identities around id 2^24, and identity records; labels are rounded to float32 as in 2018."""
    return {
        0: ([end, end + 2], b""),
        **dict.fromkeys(range(LARGE - 2, first_of_second), (0, IMAGE)),
        **dict.fromkeys(range(first_of_second, end), (7, IMAGE)),
        end: ([LARGE - 2, first_of_second], b""),
        end + 1: ([first_of_second, end], b""),
    }


@pytest.mark.parametrize("first_of_second", [LARGE - 1, LARGE, LARGE + 1, LARGE + 2, LARGE + 3])
@pytest.mark.parametrize("end", [LARGE + 4, LARGE + 5, LARGE + 6, LARGE + 7])
def test_ids_that_float32_rounds(tmp_path, first_of_second, end):
    """Every image is found, and no rounded range is taken for a damaged one."""
    records = write(tmp_path, large(first_of_second, end))
    table = records.table
    assert table.record_ids.tolist() == [0, end, end + 1]
    assert (table.bad, table.problem) == (0, "")
    found = records.identities
    assert found.labels.tolist() == [0, 7]
    assert [images.tolist() for images in found.images] == [
        [*range(LARGE - 2, first_of_second)],
        [*range(first_of_second, end)],
    ]
    assert records.image_ids().tolist() == [*range(LARGE - 2, end)]
    assert disagreement(table, found.images) == ""


def test_rounded_ranges_of_a_table_that_covers_the_file():
    """Images 1 to 2^24, and 2^24 + 1 to 2^24 + 2: float32 holds the ends as 2^24 and 2^24 + 4."""
    count = LARGE + 3
    slack = np.array([[0, 2], [2, 2]])
    ranges = np.array([[1, LARGE + 1], [LARGE + 1, count]]).astype(np.float32).astype(np.int64)
    assert ranges.tolist() == [[1, LARGE], [LARGE, LARGE + 4]]
    table = IdentityTable(np.array([0, count, count + 1]), ranges, slack, 0, "")
    assert table.covers(np.arange(count + 2))
    assert not table.covers(np.arange(count + 3))
    assert not IdentityTable(table.record_ids, ranges, 0 * slack, 0, "").covers(np.arange(count + 2))
