"""The writer of arrays: the bytes of MXNet's own, from arrays and from pieces; rows are read without the others."""

from __future__ import annotations

import errno

import numpy as np
import pytest
from harness import no_file_over

from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError
from insightface_mx.formats import params_writer
from insightface_mx.formats.checkpoint import load_small_arrays
from insightface_mx.formats.params_file import map_arrays
from insightface_mx.formats.params_writer import Rows, write_arrays


@pytest.fixture
def paths(tmp_path):
    return str(tmp_path / "own.params"), str(tmp_path / "mxnet.params")


def content(path):
    with open(path, "rb") as file:
        return file.read()


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "uint8", "int32", "int8", "int64"])
def test_the_bytes_are_those_of_mxnet(paths, dtype):
    arrays = {
        "arg:weight": mx.nd.arange(30).reshape((2, 3, 1, 5)).astype(dtype),
        "aux:é": mx.nd.ones((7,), dtype=dtype),
    }
    write_arrays(paths[0], arrays)
    mx.nd.save(paths[1], arrays)
    assert content(paths[0]) == content(paths[1])


def test_pieces_give_the_same_bytes_as_the_whole(paths):
    values = np.random.RandomState(1).normal(size=(10, 4)).astype(np.float32)
    pieces = Rows((10, 4), lambda: iter([values[:3], values[3:3], values[3:]]))
    write_arrays(paths[0], {"arg:a": mx.nd.ones(3), "arg:fc7_weight": pieces})
    mx.nd.save(paths[1], {"arg:a": mx.nd.ones(3), "arg:fc7_weight": mx.nd.array(values)})
    assert content(paths[0]) == content(paths[1])
    write_arrays(paths[0], {})
    mx.nd.save(paths[1], {})
    assert content(paths[0]) == content(paths[1])


def test_rows_are_read_by_memory_map(paths):
    values = np.random.RandomState(1).normal(size=(10, 4)).astype(np.float32)
    write_arrays(paths[0], {"arg:small": mx.nd.arange(5, dtype="int64"), "arg:fc7_weight": mx.nd.array(values)})
    arrays = load_small_arrays(paths[0], ["arg:fc7_weight", "momentum:fc7_weight"])
    assert isinstance(arrays["arg:fc7_weight"], np.memmap)
    assert np.array_equal(arrays["arg:fc7_weight"][4:7], values[4:7])
    assert isinstance(arrays["arg:small"], mx.nd.NDArray)
    assert arrays["arg:small"].asnumpy().tolist() == [0, 1, 2, 3, 4]
    assert arrays["arg:small"].dtype == np.int64
    with open(paths[0], "r+b") as file:
        file.truncate(200)
    with pytest.raises(UserError, match=r"own\.params"):
        map_arrays(paths[0])


def test_a_disk_that_returns_something_else_is_noticed(paths, monkeypatch):
    monkeypatch.setattr(params_writer, "_checksum_of", lambda path: 5)
    with pytest.raises(OSError) as error:
        write_arrays(paths[0], {"arg:a": mx.nd.ones(3)})
    assert error.value.errno == errno.EIO


def test_a_full_disk_is_an_error(paths):
    with no_file_over(1000), pytest.raises(OSError):
        write_arrays(paths[0], {"arg:a": mx.nd.ones(3000)})
