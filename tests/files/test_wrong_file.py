"""Files that a failed download left in the place of the right one: every reader names them."""

import bz2
import gzip
import importlib.util
import io
import tarfile
import zipfile

import pytest
import small_network

from insightface_mx.base.errors import UserError
from insightface_mx.cli.config import read_config
from insightface_mx.files.wrong_file import ZIP, name_of_wrong_file, refuse_wrong_file
from insightface_mx.formats import checkpoint
from insightface_mx.formats.mat_file import read_splits
from insightface_mx.formats.megaface import read_feature
from insightface_mx.formats.recordio import RecordFile, find_offsets, write_records
from insightface_mx.formats.training_set import read_property
from insightface_mx.formats.verification_set import read_bin
from insightface_mx.photos import lists, pair_lists
from insightface_mx.photos.decode import read_photo

GZIP = gzip.compress(b"content", mtime=0)
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 261073489\n"
HTML = b"\n<!DOCTYPE html>\n<html><head><title>Google Drive - Virus scan warning</title></head></html>"


def archive(kind):
    """Return the bytes of a zip or tar archive with one file."""
    file = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(file, "w") as target:
            target.writestr(zipfile.ZipInfo("model"), b"content")  # of a fixed time
    else:
        with tarfile.open(fileobj=file, mode="w") as target:
            target.addfile(tarfile.TarInfo("model"))
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (LFS, "a git-lfs pointer: the download went wrong, run git lfs pull"),
        (b"../.git/annex/objects/Xk/0q/SHA256E-s1--1.params", "a git-annex pointer: the download went wrong, run git"),
        (HTML, "an HTML page: the download went wrong, get the file again"),
        (b"\xef\xbb\xbf<HTML>", "an HTML page: "),
        (b'<?xml version="1.0"?>\n<!-- made by hand -->\n<svg width="9">', "an SVG drawing: convert it to JPEG or PNG"),
        (bz2.compress(b"content"), "a bzip2 archive: unpack it first"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "an XML page: "),
        (b"<Error><Code>NoSuchKey</Code></Error>", "an XML page: "),
        (b"404: Not Found", "a server's answer, not the file: the download went wrong"),
        (b"Entry not found", "a server's answer"),
        (b'{"error": "Repository not found"}', "a server's answer"),
        (archive("zip"), "a zip archive: unpack it first"),
        (GZIP, "a gzip archive: unpack it first"),
        (archive("tar"), "a tar archive: unpack it first"),
        (b"\xfd7zXZ\0\0\4", "an xz archive"),
        (bytes(512), "full of zeros where it should begin: the download"),
        (b"", "empty: the download or the copy went wrong, get the file again"),
    ],
)
def test_names(content, expected):
    assert name_of_wrong_file(content).startswith(expected)


@pytest.mark.parametrize(
    "content",
    [
        b'{\n  "nodes": [',
        b"\x80\x02]q\x01(",
        b"(lp1\nS'",
        b"\x12\x01\0\0\0\0\0\0",
        b"\x0a\x23\xd7\xce",
        b"85742,112,112\n",
        b"BZh1/0001.jpg\n",
        b"a" * 250 + b"/Robustarch/0001.jpg\n",
    ],
)
def test_what_right_files_begin_with_is_not_named(content):
    assert name_of_wrong_file(content) == ""


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (LFS, "a git-lfs pointer"),
        (HTML, "an HTML page"),
        (b"<Error><Code>NoSuchKey</Code></Error>", "an XML page"),
        (b"404: Not Found\n", "a server's answer, not the file"),
        (b"Access denied.", "a server's answer, not the file"),
        (GZIP, "a gzip archive"),
        (b"../.git/annex/objects/Xk/0q/a.jpg\n", ""),
        (b"not found/0001.jpg\t0\nforbidden/0001.jpg\t1\n", ""),
        (b"<unknown 1>/a.jpg\n", ""),
        (b'{"message": "text"}', ""),
        (b"", ""),
    ],
)
def test_certain_names_leave_lists_alone(content, expected):
    assert name_of_wrong_file(content, certain=True).partition(":")[0] == expected


@pytest.fixture(scope="module")
def right_files(tmp_path_factory):
    """A folder with a checkpoint and a list of records."""
    folder = tmp_path_factory.mktemp("right")
    small_network.save(folder / "net")
    with write_records(str(folder / "train.rec")) as writer:
        writer.write(0, 1.0, b"payload")
    return folder


def read_onnx(path):
    from insightface_mx.onnx_files import file

    return file.load(path)


def run_onnx(path):
    from insightface_mx.onnx_files import runtime

    return runtime.open_model(path)


def read_torch(path):
    from insightface_mx.conversion import iresnet

    return iresnet.load(path)


def list_photos(path):
    return lists.read_list(path, None, labelled=True)


def read_verify_report(path):
    from insightface_mx.eval.report_thresholds import reported_threshold

    return reported_threshold(path, 0.1, "net,1")


def read_calibration(path):
    from insightface_mx.deploy import compare

    return compare.read_calibration(path)


def use_config(path):
    from insightface_mx.options import SoftmaxOptions

    return read_config(path, SoftmaxOptions, {})


def read_templates(path):
    from insightface_mx.files.number_table import read_whole_numbers

    return read_whole_numbers(path, 2, "template, template")


READERS = {
    "net-0001.params": lambda path: checkpoint.load(path[: -len("-0001.params")], 1),
    "net-symbol.json": lambda path: checkpoint.load(path[: -len("-symbol.json")], 1),
    "train.rec": RecordFile,
    "lost.rec": find_offsets,
    "train.idx": lambda path: RecordFile(path.replace(".idx", ".rec")),
    "property": lambda path: read_property(path[: -len("/property")]),
    "lfw.bin": read_bin,
    "a.onnx": read_onnx,
    "b.onnx": run_onnx,
    "a.pth": read_torch,
    "a.jpg": read_photo,
    "a.lst": list_photos,
    "a.csv": list_photos,
    "lfw.txt": lambda path: pair_lists.read("lfw", path, None),
    "agedb.txt": lambda path: pair_lists.read("plain", path, None),
    "calfw.txt": lambda path: pair_lists.read("calfw", path, None),
    "agedb.mat": read_splits,
    "feature_model.bin": read_feature,
    "ijb.txt": read_templates,
    "report.json": read_verify_report,
    "calibration.npz": read_calibration,
    "options.json": use_config,
    "options.yml": use_config,
    "options.py": use_config,
}
MAY_BE_EMPTY = ("a.lst", "a.csv", "lfw.txt", "agedb.txt", "calfw.txt", "ijb.txt", "report.json", "options.json")
MAY_BE_EMPTY += ("options.yml", "options.py")
PACKAGES = {"onnx": ("onnx", "onnxruntime"), "pth": ("torch",)}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (LFS, "a git-lfs pointer: .* git lfs pull"),
        (HTML, "an HTML page: the download went wrong"),
        (b"", "empty"),
        (GZIP, "a gzip archive: unpack it"),
    ],
    ids=["git-lfs", "html", "empty", "gzip"],
)
def test_every_reader_names_them(right_files, tmp_path, name, content, expected):
    for package in PACKAGES.get(name.rpartition(".")[2], ()):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}")
    for file in right_files.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    if not content and name in MAY_BE_EMPTY:
        pytest.skip("such a file may be empty, or says so itself")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name}\b.* is {expected}"):
        READERS[name](str(tmp_path / name))


def test_a_zip_archive_is_right_for_pth(tmp_path):
    (tmp_path / "a.pth").write_bytes(archive("zip"))
    refuse_wrong_file(str(tmp_path / "a.pth"), right=ZIP)
    with pytest.raises(UserError, match=r"a\.pth is a zip archive"):
        refuse_wrong_file(str(tmp_path / "a.pth"))
    pytest.importorskip("torch")
    with pytest.raises(UserError, match=r"a\.pth is no state dict, or damaged"):
        read_torch(str(tmp_path / "a.pth"))


def test_a_page_of_json_in_the_place_of_parameters(right_files, tmp_path):
    for file in right_files.glob("net-*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "net-0001.params").write_bytes(b'{"message": "Not Found"}')
    with pytest.raises(UserError, match="a server's answer, not the file: the download went wrong"):
        checkpoint.load(str(tmp_path / "net"), 1)
