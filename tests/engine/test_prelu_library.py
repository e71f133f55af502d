"""The C++ operator is built once, under a name for its CPU, and load says what is missing for that."""

import pytest

from insightface_mx.engine import prelu_library
from insightface_mx.formats import cache


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
    assert list((tmp_path / "cache").iterdir()) == [library]
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert prelu_library.build(tmp_path / "cache") == library


def test_built_again_for_another_cpu(compiler, tmp_path):
    compiler('echo built > "$last"')
    library = prelu_library.build(tmp_path / "cache")
    other = prelu_library.build(tmp_path / "cache", cpu="flags: another")
    assert other != library
    assert sorted((tmp_path / "cache").iterdir()) == sorted([library, other])


def test_cache_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/of")
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    assert str(cache.cache_folder()) == "/home/of/.cache/insightface-mx"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert str(cache.cache_folder()) == "/home/of/.cache/insightface-mx"
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert str(cache.cache_folder()) == "/caches/insightface-mx"
