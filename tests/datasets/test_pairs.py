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
        ("plain", "utf16.txt", "no pair of"),
        ("plain", "zeros.txt", "is no list of paths, as it holds zero bytes: save a list as text in UTF-8"),
        ("plain", "pipe.txt", "it is a pipe, not a file"),
        ("lfw", "missing.txt", "cannot open"),
        ("cfp-fp", "missing", "Pair_list_F.txt"),
    ],
)
def test_pairs_that_cannot_be_had(tmp_path, capsys, kind, path, words):
    (tmp_path / "list.txt").write_text("just words\n")
    (tmp_path / "none.txt").write_text("a b 1\n")
    (tmp_path / "utf16.txt").write_text("a b 1\n", encoding="utf-16")
    (tmp_path / "zeros.txt").write_text("a b 1\n", encoding="utf-16-le")
    os.mkfifo(tmp_path / "pipe.txt")
    common = ["--output", tmp_path / "p.bin", "--aligned", "--workers", 1]
    assert words in error_of(capsys, pairs, "--format", kind, "--list", tmp_path / path, *common)
    assert not os.path.exists(tmp_path / "p.bin")


def test_the_first_pair_of_people_with_numbers_for_names_is_no_header(tmp_path):
    for person in (1, 2):
        os.makedirs(tmp_path / f"00{person}")
        for number in (1, 2):
            (tmp_path / f"00{person}" / f"00{person}_{number:04d}.png").write_bytes(face(person, number))
    for header in ("", "10\n", "10\t300\n", "\n10 300\n"):
        (tmp_path / "pairs.txt").write_text(header + "001\t1\t2\n002\t2\t1\n001\t1\t002\t2\n")
        images, same = make_pairs(tmp_path, "lfw", tmp_path / "pairs.txt")
        assert same == [True, True, False]
        assert images == [face(*key) for key in ((1, 1), (1, 2), (2, 2), (2, 1), (1, 1), (2, 2))]
        assert not os.path.exists(tmp_path / "pairs-skipped.csv")


def test_lfw_photos_whose_numbers_have_other_zeros(tmp_path):
    os.makedirs(tmp_path / "Ann")
    names = {"Ann_1.jpg": 1, "Ann_0002.png": 2, "Ann_03.jpg": 3, "Ann_0.jpg": 0, "Ann_00004.jpg": 4}
    for name, number in names.items():
        (tmp_path / "Ann" / name).write_bytes(face(0, number))
    (tmp_path / "pairs.txt").write_text("Ann 1 2\nAnn 0001 0\nAnn 3 2\n Ann \t 03\t 4 \n")
    images, same = make_pairs(tmp_path, "lfw", tmp_path / "pairs.txt")
    assert same == [True] * 4
    assert images == [face(0, number) for number in (1, 2, 1, 0, 3, 2, 3, 4)]


def test_two_photos_of_one_name_show_one_identity(tmp_path):
    for person, name in enumerate(("Ann", "Bob")):
        os.makedirs(tmp_path / name)
        for number in (1, 2):
            (tmp_path / name / f"{name}_{number:04d}.png").write_bytes(face(person, number))
    (tmp_path / "pairs.txt").write_text("Ann 1 Ann 2\nAnn 1 Bob 2\n")
    assert make_pairs(tmp_path, "lfw", tmp_path / "pairs.txt")[1] == [True, False]


def test_lfw_numbers_that_are_none_are_listed(tmp_path):
    os.makedirs(tmp_path / "Ann")
    (tmp_path / "Ann" / "Ann_0001.png").write_bytes(face(0))
    (tmp_path / "pairs.txt").write_text(f"Ann 1 1\nAnn 1 ²\nAnn 1 {'9' * 5000}\n")
    assert make_pairs(tmp_path, "lfw", tmp_path / "pairs.txt")[1] == [True]
    skipped = (tmp_path / "pairs-skipped.csv").read_text()
    assert "pairs.txt:2" in skipped and "File name too long" in skipped


@pytest.mark.parametrize(
    ("same", "different"), [("1", "-1"), ("1", "0"), ("TRUE", "false"), ("1.0", "0.0"), ("+1", "-1.0")]
)
def test_plain_pairs_of_minus_one(tmp_path, same, different):
    for person, name in enumerate(("a.png", "b.png")):
        (tmp_path / name).write_bytes(face(person))
    (tmp_path / "list.txt").write_text(f"a.png a.png {same}\na.png b.png {different}\n", encoding="utf-16")
    assert make_pairs(tmp_path, "plain", tmp_path / "list.txt")[1] == [True, False]
    assert not os.path.exists(tmp_path / "pairs-skipped.csv")


@pytest.mark.parametrize(
    "line",
    ["a.png,a.png,2", "a.png,a.png", "a.png,a.png,", "a.png,a.png,1,1", "a.png,a.png,yes", "b, c/b, c.jpg a.png 1"],
)
def test_a_first_line_that_is_no_title_is_listed(tmp_path, line):
    (tmp_path / "a.png").write_bytes(face(0))
    (tmp_path / "list.csv").write_text(f"{line}\na.png,a.png,1\n")
    assert make_pairs(tmp_path, "plain", tmp_path / "list.csv")[1] == [True]
    assert "list.csv:1,a line is path, path" in (tmp_path / "pairs-skipped.csv").read_text().replace('"', "")


def test_a_line_of_more_than_a_csv_field_holds_is_listed(tmp_path):
    (tmp_path / "a.png").write_bytes(face(0))
    (tmp_path / "list.csv").write_text(f"a.png,a.png,1\na.png,{'x' * 200000},1\n")
    assert make_pairs(tmp_path, "plain", tmp_path / "list.csv")[1] == [True]
    assert "list.csv:2,a line is path, path" in (tmp_path / "pairs-skipped.csv").read_text().replace('"', "")


@pytest.mark.parametrize(("flag", "kind"), [("1", "the same identity"), ("-1", "different identities")])
def test_a_set_of_one_kind_of_pairs_is_told(tmp_path, capsys, flag, kind):
    (tmp_path / "a.png").write_bytes(face(0))
    (tmp_path / "list.txt").write_text(f"a.png a.png {flag}\n")
    make_pairs(tmp_path, "plain", tmp_path / "list.txt")
    assert f"all usable pairs show {kind}: accuracy needs pairs of both kinds" in capsys.readouterr().out
