"""Our reader and writer of RecordIO next to MXNet's, and what the reader says about damaged files."""

import os
import struct

import numpy as np
import pytest

from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError
from insightface_mx.formats import recordio
from insightface_mx.formats.recordio import RecordFile, find_offsets, write_records

MAGIC = struct.pack("<I", 0xCED7230A)


def write(folder, records):
    """Write records of (label, payload) with the ids 0, 1, ... by MXNet; returns the path of the .rec file."""
    path = str(folder / "some.rec")
    file = mx.recordio.MXIndexedRecordIO(str(folder / "some.idx"), path, "w")
    for record_id, (label, payload) in enumerate(records):
        file.write_idx(record_id, mx.recordio.pack(mx.recordio.IRHeader(0, label, record_id, 0), payload))
    file.close()
    return path


def write_ours(folder, records):
    """Do the same by the project's own writer."""
    folder.mkdir()
    path = str(folder / "some.rec")
    with write_records(path) as writer:
        for record_id, (label, payload) in enumerate(records):
            writer.write(record_id, label, payload)
    return path


def test_reads_what_mxnet_wrote(tmp_path):
    payloads = [b"", b"a", b"abcd", bytes(range(256)) * 20]
    records = RecordFile(write(tmp_path, [(i, payload) for i, payload in enumerate(payloads)]))
    assert records.keys() == [0, 1, 2, 3]
    for i, payload in enumerate(payloads):
        labels, read = records.read(i)
        assert labels.tolist() == [i]
        assert read == payload


def magic_everywhere():
    """Payloads with the magic number at every alignment: alone, at the ends, repeated, overlapping, cut short."""
    for before in range(9):
        for count in (1, 2, 5):
            yield bytes(range(1, 1 + before)) + MAGIC * count + b"end"
        yield b"x" * before + MAGIC
        yield b"x" * before + MAGIC[:3] + MAGIC + MAGIC[:2]
        yield b"x" * before + MAGIC + b"y" * before + MAGIC + MAGIC


WRITTEN = [
    *[(label, b"image %d" % label) for label in range(5)],
    *[(0, b"x" * length) for length in range(9)],
    (-1.5, b"negative"),
    (np.float32(0.1), b"a number of numpy"),
    (1 << 24, b"the largest that float32 holds exactly"),
    ([25, 29], b""),
    ([1.0, 0.5, -3.0], b"a label array"),
    (np.arange(7, dtype=np.float32), b"an array"),
    (np.frombuffer(MAGIC * 3, np.float32), b"labels that are the magic number"),
    *[(i, payload) for i, payload in enumerate(magic_everywhere())],
    *[([i, i + 1], payload) for i, payload in enumerate(magic_everywhere())],
]


def test_our_files_are_those_of_mxnet(tmp_path):
    theirs, ours = write(tmp_path, WRITTEN), write_ours(tmp_path / "ours", WRITTEN)
    for extension in (".rec", ".idx"):
        with open(theirs.replace(".rec", extension), "rb") as one, open(ours.replace(".rec", extension), "rb") as two:
            assert one.read() == two.read()


def test_both_read_what_we_write(tmp_path):
    path = write_ours(tmp_path / "ours", WRITTEN)
    records = RecordFile(path)
    theirs = mx.recordio.MXIndexedRecordIO(path.replace(".rec", ".idx"), path, "r")
    for record_id, (label, payload) in enumerate(WRITTEN):
        labels, read = records.read(record_id)
        header, read_by_mxnet = mx.recordio.unpack(theirs.read_idx(record_id))
        assert read == read_by_mxnet == payload
        assert labels.tobytes() == np.atleast_1d(np.asarray(label, np.float32)).tobytes()
        assert np.atleast_1d(np.asarray(header.label, np.float32)).tobytes() == labels.tobytes()
        assert header.id == record_id
    theirs.close()
    assert find_offsets(path).tolist() == [records._offset(record_id) for record_id in range(len(WRITTEN))]


def test_record_ids_need_not_be_consecutive(tmp_path):
    path = str(tmp_path / "some.rec")
    with write_records(path) as writer:
        for record_id in (7, 3, 1 << 40):
            writer.write(record_id, record_id % 5, b"%d" % record_id)
    records = RecordFile(path)
    assert records.keys() == [7, 3, 1 << 40]
    assert [records.read(record_id)[1] for record_id in (7, 3, 1 << 40)] == [b"7", b"3", b"%d" % (1 << 40)]
    with pytest.raises(UserError, match=r"record 4 is not in .*some\.idx"):
        records.read(4)


def test_an_interrupted_writer_leaves_the_old_files(tmp_path):
    path = write(tmp_path, [(0, b"old")])
    before = {name: (tmp_path / name).read_bytes() for name in sorted(os.listdir(tmp_path))}
    with pytest.raises(KeyboardInterrupt), write_records(path) as writer:
        writer.write(0, 0, b"new")
        raise KeyboardInterrupt
    assert {name: (tmp_path / name).read_bytes() for name in sorted(os.listdir(tmp_path))} == before
    assert sorted(before) == ["some.idx", "some.rec"]


def test_a_record_that_the_format_cannot_hold(tmp_path, monkeypatch):
    monkeypatch.setattr(recordio, "MAX_LENGTH", 100)
    with pytest.raises(UserError, match="record 3 has 101 bytes"), write_records(str(tmp_path / "some.rec")) as writer:
        writer.write(2, 0, bytes(76))
        writer.write(3, 0, bytes(77))
    assert not os.listdir(tmp_path)


def test_label_arrays(tmp_path):
    records = RecordFile(write(tmp_path, [([3.0, 1.0, 0.5], b"xyz"), (7.0, b"w")]))
    assert records.read(0)[0].tolist() == [3.0, 1.0, 0.5]
    assert records.read(0)[1] == b"xyz"


@pytest.mark.parametrize("count", [1, 2, 5])
def test_payload_that_holds_the_magic_number(tmp_path, count):
    payload = b"abcd" + MAGIC * count + b"efgh"
    records = RecordFile(write(tmp_path, [(0, payload), (1, b"next")]))
    assert records.read(0)[1] == payload
    assert records.read(1)[1] == b"next"


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


def test_labels_survive_unaligned_payloads(tmp_path):
    records = RecordFile(write(tmp_path, [(np.arange(7, dtype=np.float32), b"odd"), (1, b"x")]))
    assert records.read(0)[0].tolist() == list(range(7))
    assert records.read(0)[1] == b"odd"


@pytest.mark.parametrize("label", [(1 << 24) + 1, -(1 << 24) - 1, [5, (1 << 25) + 2], np.array([1, (1 << 53) + 1])])
def test_whole_numbers_that_float32_would_round_are_refused(tmp_path, label):
    with pytest.raises(UserError, match=r"record 7: its label .* is rounded"), write_records(
        str(tmp_path / "some.rec")
    ) as writer:
        writer.write(7, label, b"")
    assert not os.listdir(tmp_path)


def test_large_numbers_that_float32_holds(tmp_path):
    path = str(tmp_path / "some.rec")
    with write_records(path) as writer:
        writer.write(0, [(1 << 24) + 2, 1 << 40], b"")
    assert RecordFile(path).read(0)[0].tolist() == [16777218, 1099511627776]


def test_heads_of_many_records(tmp_path):
    """All that `write` can write, read at once, as `read` does one by one."""
    records = RecordFile(write_ours(tmp_path / "ours", WRITTEN))
    ids = np.random.default_rng(0).permutation(len(WRITTEN))
    heads = records.heads(np.append(ids, [len(WRITTEN), -1]))
    assert heads.valid.tolist() == [True] * len(WRITTEN) + [False] * 2
    for row, record_id in enumerate(ids.tolist()):
        labels, payload = records.read(record_id)
        expected = [*labels, np.nan][:2]
        assert heads.labels[row].tobytes() == np.array(expected, np.float32).tobytes()
        assert heads.has_payload[row] == (len(payload) > 0)


def test_heads_of_damaged_records(tmp_path, monkeypatch):
    monkeypatch.setattr("insightface_mx.formats.record_heads._WINDOW", 1 << 16)
    monkeypatch.setattr("insightface_mx.formats.record_heads._HEADS_AT_ONCE", 3)
    path = write(tmp_path, [(record_id, bytes(10000 + record_id)) for record_id in range(40)])
    offsets = np.loadtxt(path.replace(".rec", ".idx"), dtype=np.int64)[:, 1]
    with open(path, "r+b") as file:
        file.seek(offsets[5])
        file.write(b"junk")
        file.seek(offsets[6] + 4)
        file.write(struct.pack("<I", 23))  # no complete header
        file.seek(offsets[7] + 8)
        file.write(struct.pack("<I", 1 << 31))  # labels
        file.seek(offsets[39] + 4)
        file.write(struct.pack("<I", (1 << 29) - 1))  # ends outside the file
    bad = {1: offsets[1] + 4, 2: (1 << 63) - 1, 3: os.path.getsize(path) - 4, 8: offsets[8] + 1}
    lines = [f"{record_id}\t{bad.get(record_id, offset)}\n" for record_id, offset in enumerate(offsets.tolist())]
    (tmp_path / "some.idx").write_text("".join(lines))
    records = RecordFile(path, np.array([bad.get(record_id, offsets[record_id]) for record_id in range(40)]))
    heads = records.heads(np.arange(40))
    damaged = [1, 2, 3, 5, 6, 7, 8, 39]
    assert np.flatnonzero(~heads.valid).tolist() == damaged
    assert heads.labels[heads.valid, 0].tolist() == [i for i in range(40) if i not in damaged]
    for record_id in damaged:
        with pytest.raises(UserError, match=f"record {record_id}"):
            records.read(record_id)


@pytest.mark.parametrize(
    "text",
    ["0\t99999999999999999999\n", "9" * 5000 + "\t0\n", "\n\n", "0\t1.5\n", "0\t\u00b2\n", "0\t\x00\n", "0\t-8\n"],
)
def test_numbers_of_an_index_that_are_none(tmp_path, text):
    path = write(tmp_path, [(0, b"x")])
    (tmp_path / "some.idx").write_text(text)
    with pytest.raises(UserError, match=r"some\.idx is not an index") as error:
        RecordFile(path)
    assert len(str(error.value)) < 1000


def test_what_is_no_file(tmp_path):
    path = write(tmp_path, [(0, b"x")])
    for extension in (".rec", ".idx"):
        file = path.replace(".rec", extension)
        os.rename(file, f"{file}.old")
        os.mkfifo(file)
        with pytest.raises(UserError, match=f"cannot open .*some{extension}: it is a pipe, not a file"):
            RecordFile(path)
        os.remove(file)
        os.rename(f"{file}.old", file)
    os.remove(path)
    os.mkfifo(path)
    with pytest.raises(UserError, match="it is a pipe, not a file"):
        find_offsets(path)
