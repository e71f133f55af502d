"""Only regular files are opened, and nothing waits for the others."""

import os
import socket

import pytest

from insightface_mx.files.regular_file import open_regular


def test_a_file_and_a_link_to_it(tmp_path):
    (tmp_path / "file").write_bytes(b"\r\n\x00content")
    os.symlink(tmp_path / "file", tmp_path / "link")
    for name in ("file", "link"):
        with open_regular(tmp_path / name) as file:
            assert file.read() == b"\r\n\x00content"
            assert file.name == str(tmp_path / name)


@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "socket"])
@pytest.mark.parametrize("linked", [False, True])
def test_what_is_no_file(tmp_path, kind, linked):
    path = str(tmp_path / kind)
    if kind == "folder":
        os.mkdir(path)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        os.symlink("/dev/zero", path)
    else:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
    if linked:
        os.symlink(path, tmp_path / "link")
        path = str(tmp_path / "link")
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match=f"it is a {kind}, not a file") as error:
        open_regular(path)
    assert error.value.filename == path
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_a_pipe_that_comes_between_check_and_opening(tmp_path, monkeypatch):
    """It is not waited for, and its descriptor is closed."""
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    status = os.stat(tmp_path / "file")
    monkeypatch.setattr(os, "stat", lambda path: status)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="it is a pipe, not a file"):
        open_regular(str(tmp_path / "pipe"))
    assert len(os.listdir("/proc/self/fd")) == before


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "none")
    with pytest.raises(OSError, match="embedded null"):
        open_regular("a\0b")
    with pytest.raises(OSError, match="no file can have this name"):
        open_regular("a\ud800b")
