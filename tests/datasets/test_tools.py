"""info, unpack, pairs and edit, as their users run them."""

import os
import pickle

import cv2
import numpy as np
import pytest

from insightface_mx.datasets import edit, info, pairs, unpack
from insightface_mx.formats.recordio import RecordFile
from insightface_mx.formats.training_set import identity_ranges, read_property, write_training_set
from insightface_mx.formats.verification_set import read_bin, write_bin


def face(person, number=0, size=32):
    """A picture of a person's own brightness, and a little noise."""
    noise = np.random.RandomState(10 * person + number).randint(0, 9, (size, size, 3))
    return cv2.imencode(".png", (noise + 30 * person).astype(np.uint8))[1].tobytes()


@pytest.fixture
def data_dir(tmp_path):
    """Persons 0 to 3 with 1, 2, 3 and 6 images."""
    people = [[face(person, number) for number in range(count)] for person, count in enumerate((1, 2, 3, 6))]
    write_training_set(str(tmp_path / "data"), people, (32, 32))
    return tmp_path / "data"


def content(folder):
    records = RecordFile(str(folder / "train.rec"))
    return [[records.read(i)[1] for i in range(*row)] for row in identity_ranges(records).tolist()]


def error_of(capsys, command, *argv):
    with pytest.raises(SystemExit) as stop:
        command.main([str(word) for word in argv])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    return error


def test_info(data_dir, capsys):
    write_bin(str(data_dir / "lfw.bin"), [face(1), face(2)], [False])
    info.main([str(data_dir), "--plot", str(data_dir / "plot.png")])
    out = capsys.readouterr().out
    for words in (
        "4 people, 12 images; property: 4,32,32",
        "1 to 6, mean 3.0, median 2.5",
        "2 to 3 images: 2 people",
        "4 to 7 images: 1 people",
        "32x32 pixels",
        "lfw.bin: 0.0 MB, 1 pairs",
    ):
        assert words in out
    assert cv2.imread(str(data_dir / "plot.png")).shape[1] == 700
    assert "does not exist" in error_of(capsys, info, data_dir / "none")


def test_unpack(data_dir, tmp_path, capsys):
    expected = content(data_dir)
    offset = int((data_dir / "train.idx").read_text().splitlines()[2].split("\t")[1])
    with open(data_dir / "train.rec", "r+b") as file:
        file.seek(offset)
        file.write(b"junk")
    os.makedirs(tmp_path / "photos.partial" / "0000003")
    (tmp_path / "photos.partial" / "0000003" / "00000012.png").write_bytes(b"from a run that was stopped")
    unpack.main([str(data_dir), "--output", str(tmp_path / "photos")])
    assert "1 skipped" in capsys.readouterr().out
    found = [
        [path.read_bytes() for path in sorted(folder.iterdir())]
        for folder in sorted((tmp_path / "photos").iterdir())
        if folder.is_dir()
    ]
    assert found[:3] == [expected[0], expected[1][1:], expected[2]]
    assert found[3][:5] == expected[3][:5]
    assert found[3][5] == b"from a run that was stopped"
    assert "exists already" in error_of(capsys, unpack, data_dir, "--output", tmp_path / "photos")


def make_pairs(tmp_path, kind, path, root=None):
    output = tmp_path / "pairs.bin"
    options = ["--root", str(root)] if root else []
    common = ["--output", str(output), "--aligned", "--image-size", "32,32", "--workers", "1"]
    pairs.main(["--format", kind, "--list", str(path), *options, *common])
    return read_bin(str(output))


def test_lfw_pairs(tmp_path, capsys):
    for person, (name, ending) in enumerate((("Ann_Lee", ".png"), ("Bob", ".jpg"))):
        os.makedirs(tmp_path / "lfw" / name)
        for number in (1, 2):
            (tmp_path / "lfw" / name / f"{name}_{number:04d}{ending}").write_bytes(face(person, number))
    lines = ["1\t2", "Ann_Lee\t1\t2", "Bob 1 2", "Ann_Lee\t1\tBob\t2", "Bob\tx\t1", "Bob\t1\t9", "Bob"]
    (tmp_path / "pairs.txt").write_text("\n".join(lines) + "\n")
    images, same = make_pairs(tmp_path, "lfw", tmp_path / "pairs.txt", tmp_path / "lfw")
    assert same == [True, True, False]
    assert images == [face(*key) for key in ((0, 1), (0, 2), (1, 1), (1, 2), (0, 1), (1, 2))]
    skipped = (tmp_path / "pairs-skipped.csv").read_text()
    assert "pairs.txt:5,a line is name" in skipped.replace('"', "")
    assert "Bob_0009.jpg,there is no such file" in skipped
    assert "3 of 4 pairs" in capsys.readouterr().out
    assert not os.path.exists(tmp_path / "pairs.bin.partial")
    with open(tmp_path / "pairs.bin", "rb") as file:
        assert file.read(2) == b"\x80\x02"
    assert pickle.loads((tmp_path / "pairs.bin").read_bytes()) == (images, same)


def test_cfp_pairs(tmp_path):
    protocol = tmp_path / "cfp" / "Protocol"
    for name, folder in (("F", "frontal"), ("P", "profile")):
        os.makedirs(tmp_path / "cfp" / "Data" / folder)
        for number in (1, 2):
            path = tmp_path / "cfp" / "Data" / folder / f"{number}.png"
            path.write_bytes(face(number + (name == "P") * 3, 0))
        protocol.mkdir(exist_ok=True)
        lines = [f"{number} ../Data/{folder}/{number}.png" for number in (1, 2)]
        (protocol / f"Pair_list_{name}.txt").write_text("\r\n".join(lines))
    for kind in ("FF", "FP"):
        for split in ("01", "02"):
            os.makedirs(protocol / "Split" / kind / split)
            (protocol / "Split" / kind / split / "same.txt").write_text("1,1\n2,2\n")
            (protocol / "Split" / kind / split / "diff.txt").write_text("1,2\n1,7\n")
    images, same = make_pairs(tmp_path, "cfp-fp", protocol)
    assert same == [True, True, False] * 2
    assert images[:6] == [face(1), face(4), face(2), face(5), face(1), face(5)]
    images, _ = make_pairs(tmp_path, "cfp-ff", protocol)
    assert images[:6] == [face(1), face(1), face(2), face(2), face(1), face(2)]


@pytest.mark.parametrize(
    "text", ["a.png b.png 1\nc.png a.png 0\n", "one,other,same\na.png,b.png,1\nc.png,a.png,False\n"]
)
def test_plain_pairs(tmp_path, text):
    for person, name in enumerate("abc"):
        (tmp_path / f"{name}.png").write_bytes(face(person))
    (tmp_path / "list.txt").write_text(text + "a.png\tb.png\t2\n")
    images, same = make_pairs(tmp_path, "plain", tmp_path / "list.txt")
    assert same == [True, False]
    assert images == [face(0), face(1), face(2), face(0)]


def test_pairs_that_cannot_be_had(tmp_path, capsys):
    (tmp_path / "list.txt").write_text("just words\n")
    (tmp_path / "none.txt").write_text("a b 1\n")
    common = ["--output", tmp_path / "p.bin", "--aligned", "--workers", "1"]
    for kind, path, words in (
        ("plain", "list.txt", "holds no pair: "),
        ("plain", "none.txt", "no pair of"),
        ("lfw", "missing.txt", "cannot open"),
        ("cfp-fp", "missing", "Pair_list_F.txt"),
    ):
        assert words in error_of(capsys, pairs, "--format", kind, "--list", tmp_path / path, *common)
        assert not os.path.exists(tmp_path / "p.bin")


def test_merge(data_dir, tmp_path, capsys):
    write_training_set(str(tmp_path / "more"), [[face(7)], [face(8), face(9)]], (32, 32))
    edit.main(["merge", str(data_dir), str(tmp_path / "more"), "--output", str(tmp_path / "both")])
    assert content(tmp_path / "both") == content(data_dir) + content(tmp_path / "more")
    assert read_property(str(tmp_path / "both")) == (6, 32, 32)
    records = RecordFile(str(tmp_path / "both" / "train.rec"))
    assert [records.read(number)[0][0] for number in (1, 12, 13, 15)] == [0, 3, 4, 5]
    write_training_set(str(tmp_path / "small"), [[face(7)]], (16, 16))
    argv = ("merge", data_dir, tmp_path / "small", "--output", tmp_path / "x")
    assert "(16, 16) and (32, 32)" in error_of(capsys, edit, *argv)
    assert "holds a training set" in error_of(capsys, edit, "merge", data_dir, "--output", tmp_path / "both")


def test_filter(data_dir, tmp_path, capsys):
    options = ("--min-images", 2, "--max-images", 4)
    edit.main(["filter", str(data_dir), *map(str, options), "--output", str(tmp_path / "some")])
    whole = content(data_dir)
    assert content(tmp_path / "some") == [whole[1], whole[2], whole[3][:4]]
    assert 'person 0,"1 images, 2 are wanted"' in (tmp_path / "some" / "dropped.csv").read_text()
    argv = ("filter", data_dir, "--min-images", 7, "--output", tmp_path / "x")
    assert "nobody would be left" in error_of(capsys, edit, *argv)


class Brightness:
    """In the place of a network: the mean brightness (0 to 255) as an angle of 0 to 90 degrees."""

    def __init__(self, model, image_size, device, backend):
        assert (model, image_size, device, backend) == ("m,1", (32, 32), "cpu", "mxnet")

    def encoded(self, encoded):
        means = [cv2.imdecode(np.frombuffer(image, np.uint8), 1).mean() for image in encoded]
        angles = np.array(means) / 255 * np.pi / 2
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_clean_drops_what_is_far_from_the_centre(tmp_path, monkeypatch):
    monkeypatch.setattr(edit, "Embedder", Brightness)
    people = [[face(0, 0), face(0, 1), face(0, 2), face(8)], [face(4)], [face(1), face(1, 1)]]
    write_training_set(str(tmp_path / "data"), people, (32, 32))
    options = ["--model", "m,1", "--ctx", "cpu", "--min-cosine", "0.8", "--output", str(tmp_path / "clean")]
    edit.main(["clean", str(tmp_path / "data"), *options])
    assert content(tmp_path / "clean") == [people[0][:3], people[1], people[2]]
    dropped = (tmp_path / "clean" / "dropped.csv").read_text().splitlines()
    assert len(dropped) == 2
    assert dropped[1].startswith("record 4,cosine 0.")


def test_exclude_drops_people_of_a_verification_set(data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(edit, "Embedder", Brightness)
    write_bin(str(tmp_path / "v.bin"), [face(2, 7), face(8)], [False])
    options = ["--model", "m,1", "--ctx", "cpu", "--max-cosine", "0.99", "--output", str(tmp_path / "disjoint")]
    edit.main(["exclude", str(data_dir), "--from", str(tmp_path / "v.bin"), *options])
    whole = content(data_dir)
    assert content(tmp_path / "disjoint") == [whole[0], whole[1], whole[3]]
    assert "person 2,cosine 1.000" in (tmp_path / "disjoint" / "dropped.csv").read_text()
