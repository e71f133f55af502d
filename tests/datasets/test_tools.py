"""info, unpack, pairs and edit, as their users run them."""

import os
import pickle

import cv2
import numpy as np
import pytest
from harness import error_of, run

from insightface_mx import symbols
from insightface_mx.base.compat import mx
from insightface_mx.datasets import edit, info, pairs, unpack
from insightface_mx.formats import checkpoint
from insightface_mx.formats.recordio import RecordFile
from insightface_mx.formats.training_set import TrainingSet, identity_ranges, read_property, write_training_set
from insightface_mx.formats.verification_set import read_bin, write_bin


def face(person, number=0, size=32):
    """A picture of an identity's own brightness, and a little noise."""
    noise = np.random.RandomState(10 * person + number).randint(0, 9, (size, size, 3))
    return cv2.imencode(".png", (noise + 30 * person).astype(np.uint8))[1].tobytes()


@pytest.fixture
def data_dir(tmp_path):
    """Identities 0 to 3 with 1, 2, 3 and 6 images."""
    people = [[face(person, number) for number in range(count)] for person, count in enumerate((1, 2, 3, 6))]
    write_training_set(str(tmp_path / "data"), people, (32, 32))
    return tmp_path / "data"


def content(folder):
    records = RecordFile(str(folder / "train.rec"))
    return [[records.read(i)[1] for i in range(*row)] for row in identity_ranges(records).tolist()]


def test_info(data_dir, capsys):
    write_bin(str(data_dir / "lfw.bin"), [face(1), face(2)], [False])
    run(info, data_dir, "--plot", data_dir / "plot.png")
    out = capsys.readouterr().out
    for words in (
        "4 identities, 12 images; property: 4,32,32",
        "1 to 6, mean 3.0, median 2.5",
        "2 to 3 images: 2 identities",
        "4 to 7 images: 1 identities",
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
    run(unpack, data_dir, "--output", tmp_path / "photos")
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
        ("lfw", "missing.txt", "cannot open"),
        ("cfp-fp", "missing", "Pair_list_F.txt"),
    ],
)
def test_pairs_that_cannot_be_had(tmp_path, capsys, kind, path, words):
    (tmp_path / "list.txt").write_text("just words\n")
    (tmp_path / "none.txt").write_text("a b 1\n")
    common = ["--output", tmp_path / "p.bin", "--aligned", "--workers", 1]
    assert words in error_of(capsys, pairs, "--format", kind, "--list", tmp_path / path, *common)
    assert not os.path.exists(tmp_path / "p.bin")


def test_merge(data_dir, tmp_path, capsys):
    write_training_set(str(tmp_path / "more"), [[face(7)], [face(8), face(9)]], (32, 32))
    run(edit, "merge", data_dir, tmp_path / "more", "--output", tmp_path / "both")
    assert content(tmp_path / "both") == content(data_dir) + content(tmp_path / "more")
    assert read_property(str(tmp_path / "both")) == (6, 32, 32)
    records = RecordFile(str(tmp_path / "both" / "train.rec"))
    assert [records.read(record_id)[0][0] for record_id in (1, 12, 13, 15)] == [0, 3, 4, 5]
    write_training_set(str(tmp_path / "small"), [[face(7)]], (16, 16))
    argv = ("merge", data_dir, tmp_path / "small", "--output", tmp_path / "x")
    assert "16,16 and 32,32" in error_of(capsys, edit, *argv)
    assert "holds a training set" in error_of(capsys, edit, "merge", data_dir, "--output", tmp_path / "both")


def test_filter(data_dir, tmp_path, capsys):
    run(edit, "filter", data_dir, "--min-images", 2, "--max-images", 4, "--output", tmp_path / "some")
    whole = content(data_dir)
    assert content(tmp_path / "some") == [whole[1], whole[2], whole[3][:4]]
    assert 'identity 0,"1 images, --min-images is 2"' in (tmp_path / "some" / "dropped.csv").read_text()
    argv = ("filter", data_dir, "--min-images", 7, "--output", tmp_path / "x")
    assert "would be left: choose another --min-images than 7" in error_of(capsys, edit, *argv)


def brightness(encoded):
    """In the place of a network: the mean brightness (0 to 255) as an angle of 0 to 90 degrees."""
    means = [cv2.imdecode(np.frombuffer(image, np.uint8), 1).mean() for image in encoded]
    angles = np.array(means) / 255 * np.pi / 2
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_images_far_from_their_identity_s_centre_are_dropped(tmp_path):
    images = [[face(0, 0), face(0, 1), face(0, 2), face(8)], [face(4)], [face(1), face(1, 1)]]
    write_training_set(str(tmp_path / "data"), images, (32, 32))
    data = TrainingSet(str(tmp_path / "data"))
    kept, dropped = edit.select_near_centre(data, brightness, 0.8)
    assert [record_ids.tolist() for record_ids in kept] == [[1, 2, 3], [5], [6, 7]]
    ((name, reason),) = dropped
    assert name == "record 4"
    assert reason.startswith("cosine 0.")
    edit.write_selection(str(tmp_path / "clean"), data, (kept, dropped), "--min-cosine")
    assert content(tmp_path / "clean") == [images[0][:3], images[1], images[2]]
    assert (tmp_path / "clean" / "dropped.csv").read_text().splitlines()[1:] == [f"record 4,{reason}"]


def test_identities_of_a_verification_set_are_dropped(data_dir, tmp_path):
    write_bin(str(tmp_path / "v.bin"), [face(2, 7), face(8)], [False])
    data = TrainingSet(str(data_dir))
    kept, dropped = edit.select_disjoint(data, brightness, [str(tmp_path / "v.bin")], 0.99)
    assert [record_ids.tolist() for record_ids in kept] == [[1], [2, 3], [7, 8, 9, 10, 11, 12]]
    assert dropped == [("identity 2", "cosine 1.000 to an image of the verification sets")]


@pytest.fixture
def network(tmp_path):
    symbol = symbols.get_symbol("r18", 8, image_size=(32, 32), version_output="GAP", version_act="relu")
    module = mx.mod.Module(symbol, label_names=None)
    module.bind([("data", (1, 3, 32, 32))], for_training=False)
    module.init_params(symbols.get_initializer("r18"))
    checkpoint.save(str(tmp_path / "m"), 1, symbol, *module.get_params())
    return f"{tmp_path}/m,1"


def test_clean_and_exclude_use_the_network(data_dir, tmp_path, network, capsys):
    """Nothing is dropped below a cosine of -1; the identity of an image that is in the set has cosine 1 to itself."""
    common = ("--model", network, "--ctx", "cpu", "--output")
    run(edit, "clean", data_dir, "--min-cosine", -1, *common, tmp_path / "clean")
    assert content(tmp_path / "clean") == content(data_dir)
    write_bin(str(tmp_path / "v.bin"), [face(0), face(0)], [True])
    run(edit, "exclude", data_dir, "--from", tmp_path / "v.bin", "--max-cosine", 0.9999, *common, tmp_path / "some")
    dropped = (tmp_path / "some" / "dropped.csv").read_text().splitlines()[1:]
    assert "identity 0,cosine 1.000 to an image of the verification sets" in dropped
    argv = ("exclude", data_dir, "--from", tmp_path / "v.bin", "--max-cosine", -1, *common, tmp_path / "none")
    assert "choose another --max-cosine than -1.0" in error_of(capsys, edit, *argv)
