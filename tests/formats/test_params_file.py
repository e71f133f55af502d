"""Files of arrays: every claim is checked against the file before MXNet allocates anything."""

import struct

import numpy as np
import pytest
from harness import MODEL_ZOO, ZOO_ONLY

from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError
from insightface_mx.formats import checkpoint
from insightface_mx.formats.params_file import check_arrays

HEAD = struct.pack("<QQQ", 0x112, 0, 1)
V1, V2, V3 = (0xF993FAC8 + i for i in range(3))
NAME = struct.pack("<QQ", 1, 5) + b"arg:a"


def array(magic=V2, storage=0, shape=(2, 3), device=1, index=0, kind=0, values=b"\0" * 24):
    """Return the bytes of an array of MXNet 1.0 and later."""
    dimensions = struct.pack(f"<I{len(shape)}q", len(shape), *shape)
    return struct.pack("<Ii", magic, storage) + dimensions + struct.pack("<iii", device, index, kind) + values


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "a.params")


def write(path, content):
    with open(path, "wb") as file:
        file.write(content)
    return path


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "uint8", "int32", "int8", "int64"])
def test_what_mxnet_writes(path, dtype):
    arrays = {"arg:weight": mx.nd.ones((2, 3, 1, 5), dtype=dtype), "aux:é": mx.nd.ones((7,), dtype=dtype)}
    mx.nd.save(path, arrays)
    check_arrays(path)
    assert checkpoint.load_arrays(path)["arg:weight"].dtype == np.dtype(dtype)
    mx.nd.save(path, list(arrays.values()))
    check_arrays(path)


@pytest.mark.parametrize(
    "stored",
    [
        struct.pack("<III", 2, 2, 3) + struct.pack("<iii", 1, 0, 0) + np.arange(6, dtype="<f4").tobytes(),
        struct.pack("<IIqq", V1, 2, 2, 3) + struct.pack("<iii", 1, 0, 0) + np.arange(6, dtype="<f4").tobytes(),
        array(values=np.arange(6, dtype="<f4").tobytes()),
        array(values=np.arange(6, dtype="<f4").tobytes(), device=2),  # of a GPU
    ],
    ids=["before 0.12", "0.12", "1.0", "GPU"],
)
def test_the_formats_of_older_versions(path, stored):
    loaded = checkpoint.load_arrays(write(path, HEAD + stored + NAME))
    assert loaded["arg:a"].asnumpy().tolist() == [[0, 1, 2], [3, 4, 5]]


@ZOO_ONLY
@pytest.mark.parametrize("name", ["det1", "det4"])
def test_parameters_of_2018(name):
    check_arrays(f"{MODEL_ZOO}/mtcnn-model/{name}-0001.params")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (struct.pack("<QQQ", 0x113, 0, 1), "it does not begin as files of arrays do"),
        (struct.pack("<QQQ", 0x112, 1, 1), "it does not begin as files of arrays do"),
        (struct.pack("<QQQ", 0x112, 0, 1 << 60), f"it says that it holds {1 << 60} arrays, more than 65536"),
        (HEAD, "it says that 4 more bytes follow where 0 are left"),
        (HEAD + struct.pack("<I", 2**32 - 1), "array 0 has 4294967295 dimensions, not 1 to 8"),
        (HEAD + struct.pack("<IiI", V2, 0, 2**32 - 1), "array 0 has 4294967295 dimensions, not 1 to 8"),
        (HEAD + struct.pack("<I", 1 << 30), "array 0 has 1073741824 dimensions"),
        (HEAD + array(shape=()) + NAME, "array 0 has 0 dimensions"),
        (HEAD + array(storage=1) + NAME, r"array 0 is sparse \(storage 1\)"),
        (HEAD + array(shape=(1 << 40, 1 << 20)) + NAME, f"says that {1 << 62} more bytes follow where 45 are left"),
        (HEAD + array(shape=(-2, -3)) + NAME, r"array 0 has the shape \(-2, -3\)"),
        (HEAD + array(shape=(0, 3), values=b"") + NAME, r"array 0 has the shape \(0, 3\)"),
        (HEAD + array(kind=99) + NAME, "array 0 is of the type 99 on the device 1, 0"),
        (HEAD + array(device=77) + NAME, "of the type 0 on the device 77"),
        (HEAD + array(index=-5) + NAME, "of the type 0 on the device 1, -5"),
        (HEAD + array(kind=1) + NAME, "it says that 48 more bytes follow where 45 are left"),
        (HEAD + array() + struct.pack("<Q", 10**9), "it says that it holds 1000000000 names for 1 arrays"),
        (HEAD + array() + struct.pack("<QQ", 1, 8 << 30), "the name of array 0 has 8589934592 bytes, more than 1024"),
        (HEAD + array() + struct.pack("<QQ", 1, 9) + b"arg:", "it says that 9 more bytes follow where 4 are left"),
        (HEAD + array() + struct.pack("<QQ", 1, 2) + b"\xff\xfe", "can't decode byte 0xff"),
        (HEAD + array() + struct.pack("<QQ", 1, 4) + b"a\x1b[m", r"named a\\x1b\[m, or the name holds control"),
    ],
)
def test_claims_that_do_not_hold(path, content, message, monkeypatch):
    monkeypatch.setattr(mx.nd, "load", lambda _: pytest.fail("MXNet read it"))
    with pytest.raises(UserError, match=rf"a\.params: not an MXNet file, or damaged \(.*{message}"):
        checkpoint.load_arrays(write(path, content))


def test_a_name_given_twice(path):
    content = struct.pack("<QQQ", 0x112, 0, 2) + 2 * array() + struct.pack("<Q", 2) + 2 * NAME[8:]
    with pytest.raises(UserError, match="two arrays are named arg:a"):
        check_arrays(write(path, content))


def test_every_truncation(path):
    content = HEAD + array() + NAME
    check_arrays(write(path, content))
    for length in range(len(content)):
        with pytest.raises(UserError, match=r"a\.params"):
            check_arrays(write(path, content[:length]))
