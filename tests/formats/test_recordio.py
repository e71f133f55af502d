import os
import struct

import numpy as np
import pytest

from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError
from insightface_mx.formats.recordio import RecordFile
from insightface_mx.formats.training_set import identity_ranges, image_records, read_property

MAGIC = struct.pack("<I", 0xCED7230A)


def write(folder, records):
    """Records of (label, payload) under the numbers 0, 1, ...; the path of the .rec file."""
    path = str(folder / "some.rec")
    file = mx.recordio.MXIndexedRecordIO(str(folder / "some.idx"), path, "w")
    for number, (label, payload) in enumerate(records):
        file.write_idx(number, mx.recordio.pack(mx.recordio.IRHeader(0, label, number, 0), payload))
    file.close()
    return path


def test_reads_what_mxnet_wrote(tmp_path):
    payloads = [b"", b"a", b"abcd", bytes(range(256)) * 20]
    records = RecordFile(write(tmp_path, [(i, payload) for i, payload in enumerate(payloads)]))
    assert records.keys() == [0, 1, 2, 3]
    for i, payload in enumerate(payloads):
        labels, read = records.read(i)
        assert labels.tolist() == [i]
        assert read == payload


def test_label_arrays(tmp_path):
    records = RecordFile(write(tmp_path, [([3.0, 1.0, 0.5], b"xyz"), (7.0, b"w")]))
    assert records.read(0)[0].tolist() == [3.0, 1.0, 0.5]
    assert records.read(0)[1] == b"xyz"
    assert records.has_label_array(0)
    assert not records.has_label_array(1)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_payload_that_holds_the_magic_number(tmp_path, count):
    payload = b"abcd" + MAGIC * count + b"efgh"
    records = RecordFile(write(tmp_path, [(0, payload), (1, b"next")]))
    assert records.read(0)[1] == payload
    assert records.read(1)[1] == b"next"


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


def test_truncated(tmp_path):
    path = write(tmp_path, [(i, bytes(100)) for i in range(5)])
    os.truncate(path, os.path.getsize(path) - 30)
    with pytest.raises(UserError, match=r"some\.rec: cut short inside record 4"):
        RecordFile(path)


def test_index_of_another_file(tmp_path):
    path = write(tmp_path, [(i, bytes(100)) for i in range(5)])
    (tmp_path / "some.idx").write_text("0\t0\n1\t64\n")
    with pytest.raises(UserError, match="no valid record 1"):
        RecordFile(path)


@pytest.mark.parametrize("text", ["", "0 0\n", "0\tzero\n", "0\t0\t0\n"])
def test_bad_index(tmp_path, text):
    path = write(tmp_path, [(0, b"x")])
    (tmp_path / "some.idx").write_text(text)
    with pytest.raises(UserError, match=r"some\.idx"):
        RecordFile(path)


def test_missing_and_empty(tmp_path):
    with pytest.raises(UserError, match=r"none\.idx"):
        RecordFile(str(tmp_path / "none.rec"))
    path = write(tmp_path, [(0, b"x")])
    os.truncate(path, 0)
    with pytest.raises(UserError, match="is empty"):
        RecordFile(path)


def test_property(tmp_path):
    (tmp_path / "property").write_text("85742,112,96\n")
    assert read_property(str(tmp_path)) == (85742, 112, 96)
    for text in ("", "5", "5,112", "0,112,112", "a,112,112", "5,112,112,3"):
        (tmp_path / "property").write_text(text)
        with pytest.raises(UserError, match="property"):
            read_property(str(tmp_path))
    with pytest.raises(UserError, match="does not exist"):
        read_property(str(tmp_path / "none"))


def test_labels_survive_unaligned_payloads(tmp_path):
    records = RecordFile(write(tmp_path, [(np.arange(7, dtype=np.float32), b"odd"), (1, b"x")]))
    assert records.read(0)[0].tolist() == list(range(7))
    assert records.read(0)[1] == b"odd"
