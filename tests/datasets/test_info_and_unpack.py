"""set-info and unpack-set, as their users run them."""

import os

import cv2
import numpy as np
import pytest
from brightness_set import content, face
from harness import error_of, no_file_over, run

from insightface_mx.datasets import info, unpack
from insightface_mx.files.chunks import ChunkStore
from insightface_mx.formats.verification_set import write_bin
from insightface_mx.photos.sources import file_stamp


@pytest.mark.slow
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
    assert "labels of" not in out
    assert "nobody" not in out
    assert cv2.imread(str(data_dir / "plot.png")).shape[1] == 700
    assert "does not exist" in error_of(capsys, info, data_dir / "none")


def test_a_plot_replaces_a_link_and_needs_no_half_file(data_dir, tmp_path, capsys):
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "plot.png").symlink_to(tmp_path / "victim")
    with no_file_over(1000):
        message = error_of(capsys, info, data_dir, "--plot", tmp_path / "plot.png")
    assert f"cannot save {tmp_path}/plot.png: File too large" in message
    assert (tmp_path / "plot.png").is_symlink()
    run(info, data_dir, "--plot", tmp_path / "plot.png")
    assert cv2.imread(str(tmp_path / "plot.png")).shape[1] == 700
    assert (tmp_path / "victim").read_text() == "precious"
    assert sorted(os.listdir(tmp_path)) == ["data", "plot.png", "victim"]


def test_unpack_leaves_a_folder_of_the_user_s_alone(data_dir, tmp_path, capsys):
    os.mkdir(tmp_path / "photos.partial")
    (tmp_path / "photos.partial" / "holiday.jpg").write_text("precious")
    message = error_of(capsys, unpack, data_dir, "--output", tmp_path / "photos")
    assert f"{tmp_path}/photos.partial was not made by this command" in message
    assert os.listdir(tmp_path / "photos.partial") == ["holiday.jpg"]
    assert sorted(os.listdir(tmp_path)) == ["data", "photos.partial"]


def test_unpack_into_a_folder_that_is_named_as_one(data_dir, tmp_path):
    run(unpack, data_dir, "--output", f"{tmp_path}/photos/")
    assert sorted(os.listdir(tmp_path)) == ["data", "photos"]
    assert sorted(os.listdir(tmp_path / "photos"))[0] == "0000000"


def test_unpack_does_not_mix_two_sets(data_dir, tmp_path, capsys):
    ChunkStore(str(tmp_path / "photos.partial"), "another set").begin()
    assert "holds images of another set" in error_of(capsys, unpack, data_dir, "--output", tmp_path / "photos")


def test_info_names_what_is_unusual(data_dir, capsys):
    """An image's label is 9 instead of 2, and another image is damaged."""
    offsets = np.loadtxt(data_dir / "train.idx", dtype=np.int64)[:, 1]
    with open(data_dir / "train.rec", "r+b") as file:
        file.seek(offsets[4] + 12)
        file.write(np.float32(9).tobytes())
        file.seek(offsets[12])
        file.write(b"junk")
    run(info, data_dir)
    out = capsys.readouterr().out
    assert "5 identities, 11 images; property: 4,32,32\nlabels of the images: 0 to 9, 5 different ones" in out
    assert "1 records are nobody's image: see insightface-check-set" in out


def test_unpack(data_dir, tmp_path, capsys):
    expected = content(data_dir)
    offset = int((data_dir / "train.idx").read_text().splitlines()[2].split("\t")[1])
    with open(data_dir / "train.rec", "r+b") as file:
        file.seek(offset)
        file.write(b"junk")
    partial = tmp_path / "photos.partial"
    ChunkStore(str(partial), file_stamp(str(data_dir / "train.rec"))).begin()  # as a run that was stopped left it
    os.makedirs(partial / "0000003")
    stopped = bytes(len(expected[3][5]))
    (partial / "0000003" / "00000012.png").write_bytes(stopped)
    (partial / "0000003" / f"00000013.png.tmp9-{'0' * 16}").write_bytes(b"half")
    run(unpack, data_dir, "--output", tmp_path / "photos")
    assert "1 skipped" in capsys.readouterr().out
    found = [
        [path.read_bytes() for path in sorted(folder.iterdir())]
        for folder in sorted((tmp_path / "photos").iterdir())
        if folder.is_dir()
    ]
    assert found[:3] == [expected[0], expected[1][1:], expected[2]]
    assert found[3][:5] == expected[3][:5]
    assert found[3][5] == stopped
    assert not (tmp_path / "photos" / "settings").exists()
    assert "exists already" in error_of(capsys, unpack, data_dir, "--output", tmp_path / "photos")
