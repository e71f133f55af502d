"""set-info and unpack-set, as their users run them."""

import os

import cv2
from brightness_set import content, face
from harness import error_of, run

from insightface_mx.datasets import info, unpack
from insightface_mx.formats.verification_set import write_bin


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
