"""The rule finds what it is there for: readers that crash, hang, allocate, execute, write elsewhere, talk too much."""

from __future__ import annotations

import ctypes
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hostile import rule
from hostile.mutations import damaged
from hostile.rule import ERROR, VALUE, Case, Group

from insightface_mx.base.errors import UserError


def _crash(folder):
    ctypes.string_at(0)


def _allocate(folder):
    return bytearray(b"x") * (700 << 20)


def _work(folder):
    end = time.process_time() + 0.5
    while time.process_time() < end:
        pass


def _raise(error):
    def read(folder):
        raise error

    return read


class _Runs:
    def __reduce__(self):
        return os.getpid, ()


READERS = {  # what it does: the reader, and what the rule says
    "nothing": (lambda folder: None, None),
    "an error for users": (_raise(UserError("FILE is cut short: get it again")), None),
    "another error": (_raise(KeyError("x")), "KeyError at"),
    "an exit": (_raise(SystemExit(1)), "SystemExit"),
    "three lines": (_raise(UserError("a\nb\nc")), "a message of 3 lines"),
    "no message": (_raise(UserError("")), "an empty message"),
    "a crash": (_crash, "ended by SIGSEGV"),
    "an end": (lambda folder: os._exit(3), "ended with status 3"),
    "much memory": (_allocate, "memory grew by"),
    "all memory": (lambda folder: bytearray(b"x") * (1 << 40), "MemoryError"),
    "a process": (
        lambda folder: subprocess.run([sys.executable, "-V"], check=True, capture_output=True),
        "subprocess.Popen",
    ),
    "a command": (lambda folder: os.system("true"), "os.system"),
    "code": (lambda folder: exec(compile("1", str(folder / "code"), "exec")), "exec"),
    "a pickle that names something": (lambda folder: pickle.loads(pickle.dumps(_Runs())), "pickle.find_class"),
    "a file elsewhere": (lambda folder: Path("/tmp/hostile-rule").write_text("x"), "opened /tmp/hostile-rule to write"),
    "a removal elsewhere": (lambda folder: os.rename("/nothing/a", "/nothing/b"), "os.rename /nothing/a"),
    "a file in its folder": (lambda folder: (folder / "x").write_text("x"), None),
    "a traceback": (
        lambda folder: os.write(2, b"Traceback (most recent call last):\n"),
        "a traceback on standard error",
    ),
}


def _hold(tmp_path, read, expect="either"):
    good = tmp_path / "good"
    group = Group("test", lambda folder: None, lambda folder: iter([Case("it", lambda folder: None, expect)]), read)
    return rule.failures(group, rule.prepared(group, good), good).get("it")


@pytest.fixture(autouse=True)
def without_threads():
    """A fork of a process with threads warns in Python 3.12."""
    if sys.version_info >= (3, 12):
        pytest.skip("the corpus forks in a process of its own; here it would warn")


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_readers(name, tmp_path):
    read, problem = READERS[name]
    found = _hold(tmp_path, read)
    if problem is None:
        assert found is None
    else:
        assert found is not None
        assert any(problem in line for line in found), found


def test_what_is_expected(tmp_path):
    assert _hold(tmp_path, lambda folder: None, ERROR) == ["it should be an error"]
    (tmp_path / "other").mkdir()
    assert "it should be a value, not 'no'" in _hold(tmp_path / "other", _raise(UserError("no")), VALUE)[0]


@pytest.mark.slow
def test_a_slow_or_hanging_reader(tmp_path, monkeypatch):
    monkeypatch.setattr(rule, "HANG", 0.5)
    assert _hold(tmp_path, lambda folder: time.sleep(60)) == ["no end after 0.5 s"]
    monkeypatch.setattr(rule, "SECONDS", 0.2)
    monkeypatch.setattr(rule, "HANG", 20)
    (tmp_path / "other").mkdir()
    assert "s of CPU time" in _hold(tmp_path / "other", _work)[0]


def test_the_case_after_a_crash_is_run(tmp_path):
    def read(folder):
        if (folder / "bad").exists():
            os._exit(7)
        raise KeyError("reached")

    cases = [Case("bad", lambda folder: (folder / "bad").touch()), Case("other", lambda folder: None)]
    group = Group("test", lambda folder: None, lambda folder: iter(cases), read)
    found = rule.failures(group, rule.prepared(group, tmp_path / "good"), tmp_path / "good")
    assert found["bad"] == ["ended with status 7"]
    assert "KeyError" in found["other"][0]


def test_mutations_follow_from_the_seed():
    content = bytes(range(256)) * 8
    assert list(damaged(content, "a")) == list(damaged(content, "a"))
    assert list(damaged(content, "a")) != list(damaged(content, "b"))
    spoiled = [other for _, other in damaged(content, "a")]
    assert len(spoiled) == 20 + 10 + 10 + 5
    assert content not in spoiled
