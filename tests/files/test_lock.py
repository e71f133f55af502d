"""The lock on an output: a second process is refused, what a killed one left is taken over."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys

import pytest

from insightface_mx.base.errors import UserError
from insightface_mx.files import lock

HOLD = (
    "import sys, time\nfrom insightface_mx.files.lock import lock_file\n"
    "with lock_file(sys.argv[1]):\n    print('ready', flush=True)\n    time.sleep(100)\n"
)


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of tmp_path/model."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "model"], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def take(tmp_path):
    with lock.lock_file(str(tmp_path / "model")):
        return json.loads((tmp_path / "model.lock").read_text())


def without_locks(monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.mark.parametrize("has_locks", [True, False])
def test_a_second_process_is_told_who_writes(tmp_path, holder, monkeypatch, has_locks):
    if not has_locks:
        without_locks(monkeypatch)
    message = rf"model is being written by process {holder.pid} on {re.escape(socket.gethostname())} since \d{{4}}-"
    with pytest.raises(UserError, match=message):
        take(tmp_path)
    assert os.listdir(tmp_path) == ["model.lock"]


@pytest.mark.parametrize("has_locks", [True, False])
def test_the_lock_of_a_killed_process_is_taken_over(tmp_path, holder, monkeypatch, has_locks):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert json.loads((tmp_path / "model.lock").read_text())["process"] == holder.pid
    if not has_locks:
        without_locks(monkeypatch)
    assert take(tmp_path)["process"] == os.getpid()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("content", ["", "{", "\0" * 90, '{"host": 1, "process": "x"}', '{"host": ' + "[" * 4000])
def test_what_a_crash_left_of_a_lock_is_taken_over(tmp_path, content):
    (tmp_path / "model.lock").write_text(content)
    assert take(tmp_path)["host"] == socket.gethostname()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("content", [b"my notes\n", b"[1]", b"[" * 5000, b'{"name": 1}', b"\xff\0"])
def test_a_file_of_the_user_s_stays_as_it_is(tmp_path, content, monkeypatch):
    path = tmp_path / "model.lock"
    path.write_bytes(content)
    with lock.lock_file(str(tmp_path / "model")), pytest.raises(UserError, match="is being written by "):
        take(tmp_path)
    without_locks(monkeypatch)
    with pytest.raises(UserError, match=r"model\.lock was not made by this program: move it away"):
        take(tmp_path)
    assert path.read_bytes() == content


def test_another_machine_s_lock_counts_where_locks_may_not_reach_it(tmp_path, monkeypatch):
    (tmp_path / "model.lock").write_text('{"host": "else\\u001b[2Jwhere", "process": 7, "time": "2026-01-01 00:00:00"}')
    monkeypatch.setattr(lock, "_is_on_network", lambda path: True)
    message = r"by process 7 on else.*where since 2026-01-01 00:00:00, or that process was killed: if it was, remove "
    with pytest.raises(UserError, match=message) as refused:
        take(tmp_path)
    assert "\x1b" not in str(refused.value)
    monkeypatch.setattr(lock, "_is_on_network", lambda path: False)  # a container that was started again
    take(tmp_path)


def test_the_number_of_a_dead_process_may_have_been_given_again(tmp_path, monkeypatch):
    without_locks(monkeypatch)
    owner = {"host": socket.gethostname(), "process": os.getpid(), "began": "1"}
    (tmp_path / "model.lock").write_text(json.dumps(owner))
    take(tmp_path)


def test_an_error_and_an_interruption_remove_the_lock(tmp_path):
    for error in (ZeroDivisionError, KeyboardInterrupt):
        with pytest.raises(error), lock.lock_file(str(tmp_path / "model")):
            raise error
        assert os.listdir(tmp_path) == []


def test_one_process_has_it_once(tmp_path):
    with lock.lock_file(str(tmp_path / "model")), pytest.raises(UserError, match=f"by process {os.getpid()} on"):
        take(tmp_path)
    take(tmp_path)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("victim")])
def test_something_else_in_its_place(tmp_path, make):
    make(tmp_path / "model.lock")
    with pytest.raises(UserError, match=r"cannot save .*model\.lock: "):
        take(tmp_path)
    assert os.listdir(tmp_path) == ["model.lock"]


def test_a_file_in_the_place_of_a_folder(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"photo")
    for path, take_lock in (("photo.jpg/model/m", lock.lock_file), ("photo.jpg", lock.lock_folder)):
        with pytest.raises(UserError) as refused, take_lock(str(tmp_path / path)):
            pytest.fail("there can be no lock")
        assert str(refused.value).endswith(f": {tmp_path}/photo.jpg is no folder; choose another --output or --prefix")
    assert (tmp_path / "photo.jpg").read_bytes() == b"photo"


@pytest.mark.parametrize("take_lock, name", [(lock.lock_folder, ".lock"), (lock.lock_file, "model.lock")])
def test_a_folder_that_stays_empty_is_removed_if_it_is_new(tmp_path, take_lock, name):
    os.mkdir(tmp_path / "old")
    for folder in (tmp_path / "new", tmp_path / "old"):
        with take_lock(str(folder if name == ".lock" else folder / "model")):
            assert os.listdir(folder) == [name]
    assert os.listdir(tmp_path) == ["old"]


def test_network_file_systems_are_known(tmp_path, monkeypatch):
    mounts = f"1 0 0:1 / / rw - ext4 /dev/sda rw\n2 1 0:2 / {tmp_path}/a\\040b rw shared:1 - nfs4 host:/x rw\n"
    (tmp_path / "mounts").write_text(mounts)
    opened = open
    monkeypatch.setattr("builtins.open", lambda path, **how: opened(tmp_path / "mounts", **how))
    assert lock._is_on_network(f"{tmp_path}/a b/model.lock")
    assert not lock._is_on_network(f"{tmp_path}/a/model.lock")
