"""edit-set: sets are merged, and images or identities are selected by number, centre and verification set."""

import cv2
import numpy as np
import pytest
from brightness_set import content, face
from harness import error_of, run

from insightface_mx import symbols
from insightface_mx.base.compat import mx
from insightface_mx.datasets import edit, join
from insightface_mx.formats import checkpoint
from insightface_mx.formats.recordio import RecordFile
from insightface_mx.formats.training_set import TrainingSet, read_property, write_training_set
from insightface_mx.formats.verification_set import write_bin


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


def test_identities_near_others_are_dropped(data_dir):
    data = TrainingSet(str(data_dir))
    kept, dropped = edit.select_disjoint(data, brightness, brightness([face(2, 7), face(8)]), 0.99)
    assert [record_ids.tolist() for record_ids in kept] == [[1], [2, 3], [7, 8, 9, 10, 11, 12]]
    assert dropped == [("identity 2", "cosine 1.000 to an image or identity of --from")]


def angles(*degrees):
    return np.array([[np.cos(np.radians(angle)), np.sin(np.radians(angle))] for angle in degrees])


def test_identities_of_several_sets_are_joined(monkeypatch):
    """By the nearest centre of the sets before; those of one set are never compared."""
    sets = [angles(0, 2, 90), angles(1.6, 45, 93), angles(44, 180, 1.1)]
    for block in (1 << 24, 1):
        monkeypatch.setattr(join, "_BLOCK", block)
        groups, joined = join.join_identities(sets, np.cos(np.radians(5)))
        assert groups == [[(0, 0)], [(0, 1), (1, 0), (2, 2)], [(0, 2), (1, 2)], [(1, 1), (2, 0)], [(2, 1)]]
        assert [(found.member, found.other) for found in joined] == [
            ((1, 0), (0, 1)),
            ((1, 2), (0, 2)),
            ((2, 0), (1, 1)),
            ((2, 2), (0, 1)),
        ]
        expected = np.cos(np.radians([0.4, 3, 1, 0.9]))
        assert np.allclose([found.cosine for found in joined], expected)


@pytest.fixture
def network(tmp_path):
    symbol = symbols.get_symbol("r18", 8, image_size=(32, 32), version_output="GAP", version_act="relu")
    module = mx.mod.Module(symbol, label_names=None)
    module.bind([("data", (1, 3, 32, 32))], for_training=False)
    module.init_params(symbols.get_initializer("r18"))
    checkpoint.save(str(tmp_path / "m"), 1, symbol, *module.get_params())
    return f"{tmp_path}/m,1"


@pytest.mark.slow
def test_clean_and_exclude_use_the_network(data_dir, tmp_path, network, capsys):
    """Nothing is dropped below a cosine of -1; the identity of an image that is in the set has cosine 1 to itself."""
    common = ("--model", network, "--ctx", "cpu", "--output")
    run(edit, "clean", data_dir, "--min-cosine", -1, *common, tmp_path / "clean")
    assert content(tmp_path / "clean") == content(data_dir)
    write_bin(str(tmp_path / "v.bin"), [face(0), face(0)], [True])
    run(edit, "exclude", data_dir, "--from", tmp_path / "v.bin", "--max-cosine", 0.9999, *common, tmp_path / "some")
    dropped = (tmp_path / "some" / "dropped.csv").read_text().splitlines()[1:]
    assert "identity 0,cosine 1.000 to an image or identity of --from" in dropped
    argv = ("exclude", data_dir, "--from", tmp_path / "v.bin", "--max-cosine", -1, *common, tmp_path / "none")
    assert "choose another --max-cosine than -1.0" in error_of(capsys, edit, *argv)


@pytest.mark.slow
def test_exclude_takes_folders_training_sets_lists_and_records(data_dir, tmp_path, network):
    """Each of them holds identity 0, which has one image."""
    images = content(data_dir)[0]
    (tmp_path / "photos" / "x").mkdir(parents=True)
    (tmp_path / "photos" / "x" / "1.png").write_bytes(images[0])
    (tmp_path / "photos.lst").write_text("photos/x/1.png\n")
    write_training_set(str(tmp_path / "set"), [images], (32, 32))
    for place, source in enumerate(("photos", "photos.lst", "set", "set/train.rec")):
        output = tmp_path / str(place)
        argv = ("exclude", data_dir, "--from", tmp_path / source, "--max-cosine", 0.9999, "--model", network)
        run(edit, *argv, "--image-size", "32,32", "--ctx", "cpu", "--output", output)
        dropped = (output / "dropped.csv").read_text().splitlines()[1:]
        assert "identity 0,cosine 1.000 to an image or identity of --from" in dropped, source
        assert len(content(output)) == 4 - len(dropped) > 0


@pytest.mark.slow
def test_merge_joins_by_a_network_and_reports(data_dir, tmp_path, network, capsys):
    whole = content(data_dir)
    write_training_set(str(tmp_path / "more"), [[face(8)], whole[3]], (32, 32))
    common = ("merge", data_dir, tmp_path / "more", "--output", tmp_path / "both")
    run(edit, *common, "--model", network, "--join-cosine", 0.999999, "--ctx", "cpu")
    found = content(tmp_path / "both")
    assert [len(images) for images in found] in ([1, 2, 3, 12, 1], [2, 2, 3, 12])
    assert found[3] == whole[3] * 2
    rows = (tmp_path / "both" / "joined.csv").read_text().splitlines()
    assert rows[0] == "identity,set,joined_with,of_set,cosine"
    assert rows[-1] == f"1,{tmp_path}/more,3,{data_dir},1.0000"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--join-cosine", 0.5], "--join-cosine needs --model"),
        (["--model", "m,1"], "no effect without --join-cosine"),
        (["--image-size", "32,32"], "no effect without --model"),
        (["--ctx", "cpu"], "no effect without --model"),
        (["--pixel-mean", "3"], "no effect without --model"),
        (["--join-cosine", "2", "--model", "m,1"], "2 is not from -1 to 1"),
        (["--join-cosine", "nan", "--model", "m,1"], "nan is not from -1 to 1"),
        (["--join-cosine", "0.5", "--model", "m,1"], "give two or more"),
    ],
)
def test_options_that_cannot_act_say_so(data_dir, tmp_path, capsys, options, words):
    assert words in error_of(capsys, edit, "merge", data_dir, "--output", tmp_path / "x", *options, lines=4)


def test_what_nobody_can_use_is_listed(data_dir, tmp_path):
    """Record 5 is damaged, and the label of record 6 is no class."""
    offsets = np.loadtxt(data_dir / "train.idx", dtype=np.int64)[:, 1]
    with open(data_dir / "train.rec", "r+b") as file:
        file.seek(offsets[5])
        file.write(b"junk")
        file.seek(offsets[6] + 12)
        file.write(np.float32(1e30).tobytes())
    expected = content(data_dir)
    assert [len(images) for images in expected] == [1, 2, 1, 6]
    for command in (["merge", data_dir], ["filter", data_dir, "--min-images", 1]):
        output = tmp_path / command[0]
        run(edit, *command, "--output", output)
        assert content(output) == expected
        dropped = (output / "dropped.csv").read_text()
        assert "no valid record 5" in dropped
        assert "record 6 has the label 1e+30, which is no class" in dropped
