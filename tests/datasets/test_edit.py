"""edit-set: sets are merged, and images or identities are selected by number, centre and verification set."""

import cv2
import numpy as np
import pytest
from brightness_set import content, face
from harness import error_of, run

from insightface_mx import symbols
from insightface_mx.base.compat import mx
from insightface_mx.datasets import edit
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


@pytest.mark.slow
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
