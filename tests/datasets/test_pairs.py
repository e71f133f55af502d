"""make-pairs: every kind of list, and pairs that cannot be used."""

import os
import pickle

import pytest
from brightness_set import face
from harness import error_of, run

from insightface_mx.datasets import pairs
from insightface_mx.formats.verification_set import read_bin


def make_pairs(tmp_path, kind, path, root=None):
    output = tmp_path / "pairs.bin"
    options = ["--root", root] if root else []
    common = ["--output", output, "--aligned", "--image-size", "32,32", "--workers", 1]
    run(pairs, "--format", kind, "--list", path, *options, *common)
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


@pytest.mark.parametrize(
    ("kind", "path", "words"),
    [
        ("plain", "list.txt", "holds no pair: "),
        ("plain", "none.txt", "no pair of"),
        ("plain", "utf16.txt", "is no list of paths"),
        ("lfw", "missing.txt", "cannot open"),
        ("cfp-fp", "missing", "Pair_list_F.txt"),
    ],
)
def test_pairs_that_cannot_be_had(tmp_path, capsys, kind, path, words):
    (tmp_path / "list.txt").write_text("just words\n")
    (tmp_path / "none.txt").write_text("a b 1\n")
    (tmp_path / "utf16.txt").write_text("a b 1\n", encoding="utf-16")
    common = ["--output", tmp_path / "p.bin", "--aligned", "--workers", 1]
    assert words in error_of(capsys, pairs, "--format", kind, "--list", tmp_path / path, *common)
    assert not os.path.exists(tmp_path / "p.bin")
