"""The C++ operator is built once, under a name for its CPU, and load says what is missing for that."""

import os
import signal
import stat
import subprocess
import sys
import time

import pytest

from insightface_mx.engine import prelu_library
from insightface_mx.files import cache


@pytest.fixture
def compiler(monkeypatch, tmp_path):
    """Return a function that makes shell commands the compiler; $last is, as for g++, the file to write."""

    def use(commands):
        path = tmp_path / "g++"
        path.write_text(f"#!/bin/sh\nfor last; do :; done\n{commands}\n")
        path.chmod(0o755)
        monkeypatch.setenv("CXX", str(path))

    return use


def test_no_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(OSError, match=r"^\[Errno 2\] No such file or directory: 'no-such-compiler'$"):
        prelu_library.load(tmp_path)


def test_compiler_that_fails_leaves_nothing(compiler, tmp_path):
    compiler('echo half > "$last"; echo "a.cc:1: error: no" >&2; exit 1')
    with pytest.raises(RuntimeError, match=r"g\+\+ cannot compile prelu_op\.cc: a\.cc:1: error: no$"):
        prelu_library.load(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.slow
def test_a_signal_ends_the_compiler_and_what_it_started(compiler, tmp_path):
    """As g++ starts cc1plus. What the compiler started says so in a file after 1.5 s if it lives."""
    started, alive, folder = tmp_path / "started", tmp_path / "alive", tmp_path / "cache"
    compiler(f"(touch {started}; sleep 1.5; touch {alive}) & wait")
    code = (
        "import sys, pathlib; from insightface_mx.engine.prelu_library import build; build(pathlib.Path(sys.argv[1]))"
    )
    with subprocess.Popen([sys.executable, "-c", code, folder], stderr=subprocess.PIPE, text=True) as process:
        while not started.exists() and process.poll() is None:
            time.sleep(0.05)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    assert errors.splitlines()[-1] == "KeyboardInterrupt"
    time.sleep(2)
    assert not alive.exists()
    assert list(folder.iterdir()) == []


def test_library_that_cannot_be_loaded(compiler, tmp_path):
    compiler('echo nonsense > "$last"')
    with pytest.raises(RuntimeError, match=r"^MXNet cannot load the compiled prelu_op\.cc: ."):
        prelu_library.load(tmp_path / "cache")


def test_cache_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "cache").write_text("a file in the place of the folder")
    with pytest.raises(OSError, match=r"^\[Errno 17\] File exists"):
        prelu_library.load(tmp_path / "cache")


def test_load_error_is_the_message(compiler, tmp_path, monkeypatch):
    """In a process that has not loaded the operator yet, as __wrapped__ makes this one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiler('echo "a.cc:1: error: no" >&2; exit 1')
    assert prelu_library.load_error.__wrapped__().endswith("g++ cannot compile prelu_op.cc: a.cc:1: error: no")
    assert (tmp_path / "insightface-mx").is_dir()


def test_built_once(compiler, monkeypatch, tmp_path):
    compiler('echo built > "$last"')
    library = prelu_library.build(tmp_path / "cache")
    assert library.read_text() == "built\n"
    assert sorted((tmp_path / "cache").iterdir()) == [library.with_suffix(".sha256"), library]
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "cache", *(tmp_path / "cache").iterdir())]
    assert modes == [0o700, 0o600, 0o600]
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert prelu_library.build(tmp_path / "cache") == library


def test_built_again_for_another_cpu(compiler, tmp_path):
    compiler('echo built > "$last"')
    library = prelu_library.build(tmp_path / "cache")
    other = prelu_library.build(tmp_path / "cache", cpu="flags: another")
    assert other != library
    assert sorted((tmp_path / "cache").glob("*.so")) == sorted([library, other])


def in_the_way(library, kind):
    """Put something else in the place of a library or of its hash."""
    if kind == "cut":
        os.truncate(library, 3)
    elif kind == "damaged":
        library.write_bytes(b"Built\n")
    elif kind == "empty":
        library.write_bytes(b"")
    elif kind == "writable":
        library.chmod(0o666)
    elif kind == "no hash":
        library.with_suffix(".sha256").unlink()
    elif kind == "another hash":
        library.with_suffix(".sha256").write_text("0" * 64)
    elif kind == "no text":
        library.with_suffix(".sha256").write_bytes(b"\xff" * 64)
    else:
        library.unlink()
        os.mkfifo(library)


@pytest.mark.parametrize(
    "kind", ["cut", "damaged", "empty", "writable", "no hash", "another hash", "no text", "a pipe"]
)
def test_what_is_not_as_it_was_written_is_built_again(compiler, tmp_path, caplog, kind):
    compiler('echo built > "$last"')
    library = prelu_library.build(tmp_path / "cache")
    in_the_way(library, kind)
    compiler('echo again > "$last"')
    assert prelu_library.build(tmp_path / "cache") == library
    assert library.read_text() == "again\n"
    assert f"{library} " in caplog.text
    assert "compiled again" in caplog.text
    compiler("exit 1")
    assert prelu_library.build(tmp_path / "cache") == library


def test_a_library_of_another_name_is_built_again(compiler, tmp_path):
    """Its source or CPU is another, so its hash is, too."""
    compiler('echo built > "$last"')
    library = prelu_library.build(tmp_path / "cache")
    other = prelu_library.build(tmp_path / "cache", cpu="flags: another")
    for suffix in (".so", ".sha256"):
        other.with_suffix(suffix).write_bytes(library.with_suffix(suffix).read_bytes())
    compiler('echo again > "$last"')
    assert prelu_library.build(tmp_path / "cache", cpu="flags: another").read_text() == "again\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only the administrator can give files away")
@pytest.mark.parametrize("suffix", [".so", ".sha256"])
def test_a_library_of_another_user_is_built_again(compiler, tmp_path, suffix):
    compiler('echo built > "$last"')
    library = prelu_library.build(tmp_path / "cache")
    os.chown(library.with_suffix(suffix), 12345, 12345)
    compiler('echo again > "$last"')
    assert prelu_library.build(tmp_path / "cache").read_text() == "again\n"


def test_a_folder_where_others_may_write_is_closed(compiler, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o777)
    compiler('echo built > "$last"')
    prelu_library.build(tmp_path / "cache")
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only the administrator can give files away")
@pytest.mark.parametrize("link", [False, True])
def test_nothing_is_taken_from_a_folder_of_another_user(compiler, monkeypatch, tmp_path, link):
    compiler('echo built > "$last"')
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = cache.cache_folder()
    if link:
        (tmp_path / "elsewhere").mkdir()
        folder.symlink_to("elsewhere")
    else:
        folder.mkdir()
    os.chown(folder, 12345, 12345, follow_symlinks=False)
    with pytest.raises(OSError, match="others may write in this folder"):
        prelu_library.build(folder)
    assert "others may write in this folder" in prelu_library.load_error.__wrapped__()


def test_cache_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/of")
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    assert str(cache.cache_folder()) == "/home/of/.cache/insightface-mx"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert str(cache.cache_folder()) == "/home/of/.cache/insightface-mx"
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert str(cache.cache_folder()) == "/caches/insightface-mx"
