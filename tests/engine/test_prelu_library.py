"""The C++ operator is built once, under a name for its machine, and what is missing for that is said."""

import pytest

from insightface_mx.engine import prelu_library as native
from insightface_mx.formats import cache


@pytest.fixture
def no_library(monkeypatch, tmp_path):
    """A cache folder with nothing in it, and native.problem() as if it had not been asked yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(native, "problem", native.problem.__wrapped__)
    return tmp_path / "insightface-mx"


def compiler(tmp_path, commands):
    """A stand-in for g++ whose last argument, as for g++, is the file to write."""
    path = tmp_path / "g++"
    path.write_text(f"#!/bin/sh\nfor last; do :; done\n{commands}\n")
    path.chmod(0o755)
    return str(path)


def test_no_compiler(no_library, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert native.problem() == "[Errno 2] No such file or directory: 'no-such-compiler'"


def test_compiler_that_fails_leaves_nothing(no_library, monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", compiler(tmp_path, 'echo half > "$last"; echo "a.cc:1: error: no" >&2; exit 1'))
    assert native.problem().endswith("g++ cannot compile prelu_op.cc: a.cc:1: error: no")
    assert list(no_library.iterdir()) == []


def test_library_that_cannot_be_loaded(no_library, monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", compiler(tmp_path, 'echo nonsense > "$last"'))
    assert native.problem().startswith("MXNet cannot load what prelu_op.cc compiles to: ")


def test_cache_folder_that_cannot_be_written(no_library, monkeypatch):
    no_library.write_text("a file where the folder should be")
    assert native.problem().startswith("[Errno 17] File exists")


def test_built_once(no_library, monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", compiler(tmp_path, 'echo built > "$last"'))
    library = native.build(cache.cache_folder())
    assert list(no_library.iterdir()) == [library]
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert native.build(cache.cache_folder()) == library


def test_built_anew_for_another_processor(no_library, monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", compiler(tmp_path, 'echo built > "$last"'))
    library = native.build(cache.cache_folder())
    monkeypatch.setattr(native, "_processor", lambda: "another")
    assert native.build(cache.cache_folder()) != library


def test_cache_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/of")
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    assert str(cache.cache_folder()) == "/home/of/.cache/insightface-mx"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert str(cache.cache_folder()) == "/home/of/.cache/insightface-mx"
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert str(cache.cache_folder()) == "/caches/insightface-mx"
