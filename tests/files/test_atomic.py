"""Writing files: whole or not at all, never through a link, nothing left behind, and the errors of a full disk."""

from __future__ import annotations

import errno
import os
import re
import signal
import stat
import subprocess
import sys
import zipfile

import harness
import numpy as np
import pytest

from insightface_mx.base.errors import UserError
from insightface_mx.files import atomic


def test_the_temporary_file_is_new_has_a_random_name_and_the_mode_that_the_umask_says(tmp_path):
    before = os.umask(0o027)
    try:
        with atomic.atomic_path(str(tmp_path / "a.txt")) as one, atomic.atomic_path(str(tmp_path / "a.txt")) as other:
            assert one != other
            assert re.fullmatch(rf"a\.txt\.tmp{os.getpid()}-[0-9a-f]{{16}}", os.path.basename(one))
            assert os.path.getsize(one) == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_link_in_the_place_of_the_temporary_file_is_not_followed(tmp_path, monkeypatch):
    (tmp_path / "victim").write_text("precious")
    monkeypatch.setattr(atomic.secrets, "token_hex", lambda size: "0" * 2 * size)
    (tmp_path / f"a.txt.tmp{os.getpid()}-{'0' * 16}").symlink_to(tmp_path / "victim")
    with pytest.raises(FileExistsError):
        atomic.save_text(str(tmp_path / "a.txt"), "new")
    assert (tmp_path / "victim").read_text() == "precious"


def test_an_output_that_is_a_link_is_replaced(tmp_path):
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "a.txt").symlink_to(tmp_path / "victim")
    atomic.save_text(str(tmp_path / "a.txt"), "new")
    assert (tmp_path / "victim").read_text() == "precious"
    assert not (tmp_path / "a.txt").is_symlink()
    assert (tmp_path / "a.txt").read_text() == "new"


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_a_folder_or_pipe_in_the_place_of_an_output(tmp_path, make):
    make(tmp_path / "a.txt")
    with pytest.raises(OSError, match="there is a folder, a device or a pipe of this name"):
        atomic.save_text(str(tmp_path / "a.txt"), "new")
    assert os.listdir(tmp_path) == ["a.txt"]


def test_an_error_leaves_the_old_file_alone(tmp_path):
    atomic.save_text(str(tmp_path / "a.txt"), "old")
    with pytest.raises(ZeroDivisionError), atomic.atomic_path(str(tmp_path / "a.txt")) as temporary:
        with open(temporary, "w") as file:
            file.write("half")
        raise ZeroDivisionError
    assert (tmp_path / "a.txt").read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_what_a_killed_process_left_is_removed_and_what_another_one_writes_is_not(tmp_path):
    code = (
        "import sys, time\nfrom insightface_mx.files.atomic import atomic_path\n"
        "with atomic_path(sys.argv[1]) as path: print(path, flush=True); time.sleep(100)\n"
    )
    output = str(tmp_path / "a.txt")
    writers = [subprocess.Popen([sys.executable, "-c", code, output], stdout=subprocess.PIPE, text=True) for _ in "12"]
    killed, running = (os.path.basename(writer.stdout.readline().strip()) for writer in writers)
    writers[0].send_signal(signal.SIGKILL)
    writers[0].wait()
    others = ["a.txt.tmp", "a.txt.tmp12-0", "ba.txt.tmp12-0123456789abcdef", "a.txt.tmpx-0123456789abcdef"]
    for name in [*others, "a.txt.tmp12"]:
        (tmp_path / name).write_text("")
    assert killed in os.listdir(tmp_path)
    with atomic.report_write_errors(output):
        atomic.save_text(output, "new")
    assert sorted(os.listdir(tmp_path)) == sorted(["a.txt", running, *others])
    writers[1].kill()
    for writer in writers:
        writer.wait()
        writer.stdout.close()


@pytest.mark.parametrize("number, end", [(errno.ENOSPC, "untouched. Is the disk full?"), (errno.EACCES, "untouched.")])
def test_only_where_it_can_be_the_disk_is_asked_for(tmp_path, number, end):
    with pytest.raises(UserError) as failed, atomic.report_write_errors(str(tmp_path / "a")):
        raise OSError(number, os.strerror(number))
    assert str(failed.value) == f"cannot save {tmp_path}/a: {os.strerror(number)}; what was saved before is {end}"


def test_a_path_with_a_nul_is_an_error():
    with pytest.raises(UserError, match="no path holds a NUL"), atomic.report_write_errors("a\0b"):
        pytest.fail("must not run")


def test_save_npz_writes_what_numpy_writes(tmp_path):
    arrays = {"a": np.arange(6.0).reshape(2, 3), "names": np.array(["x", "yy"]), "flags": np.array([True])}
    atomic.save_npz(str(tmp_path / "ours.npz"), arrays)
    np.savez(tmp_path / "numpys.npz", **arrays)
    assert (tmp_path / "ours.npz").read_bytes() == (tmp_path / "numpys.npz").read_bytes()
    assert zipfile.ZipFile(tmp_path / "ours.npz").testzip() is None


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 100, 5000, 70000, 80200])
def test_a_full_disk_leaves_no_half_file_and_no_second_error(tmp_path, size):
    """An object that still tries to write when it is freed prints "Exception ignored in" with a traceback."""
    code = (
        "import sys, numpy as np\nfrom insightface_mx.files import atomic\n"
        "try: atomic.save_npz(sys.argv[1], {'a': np.zeros(5000), 'b': np.zeros(5000)})\n"
        "except OSError as error: print(error.strerror)\n"
    )
    output = tmp_path / "a.npz"
    atomic.save_text(str(output), "old")
    with harness.no_file_over(size):
        done = subprocess.run([sys.executable, "-B", "-c", code, output], capture_output=True, text=True)
    assert (done.stdout, done.stderr, done.returncode) == ("File too large\n", "", 0)
    assert output.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.npz"]
