"""Reading and writing NAME.bin: whoever wrote it, and without running anything that it names."""

import base64
import os
import pickle
import tracemalloc

import numpy as np
import pytest

from insightface_mx.base.errors import UserError
from insightface_mx.files import safe_pickle
from insightface_mx.formats.verification_set import read_bin, write_bin

IMAGES = [b"\xff\xd8\x00A\n'\"\\", b"\x89PNG\r\n"]

# Written by Python 2.7's cPickle with numpy 1.16: ([IMAGES as uint8 arrays], [numpy.bool_(True)]), protocols 0, 1, 2.
PYTHON_2_NUMPY = [
    "KChscDEKY251bXB5LmNvcmUubXVsdGlhcnJheQpfcmVjb25zdHJ1Y3QKcDIKKGNudW1weQpuZGFycmF5CnAzCihJMAp0UydiJwp0UnA0CihJMQooSTgK"
    "dGNudW1weQpkdHlwZQpwNQooUyd1MScKSTAKSTEKdFJwNgooSTMKUyd8JwpOTk5JLTEKSS0xCkkwCnRiSTAwClMnXHhmZlx4ZDhceDAwQVxuXCciXFwn"
    "CnRiYWcyCihnMwooSTAKdFMnYicKdFJwNwooSTEKKEk2CnRnNgpJMDAKUydceDg5UE5HXHJcbicKdGJhKGxwOApjbnVtcHkuY29yZS5tdWx0aWFycmF5"
    "CnNjYWxhcgpwOQooZzUKKFMnYjEnCkkwCkkxCnRScDEwCihJMwpTJ3wnCk5OTkktMQpJLTEKSTAKdGJTJ1x4MDEnCnRScDExCmF0Lg==",
    "KF1xAShjbnVtcHkuY29yZS5tdWx0aWFycmF5Cl9yZWNvbnN0cnVjdApxAihjbnVtcHkKbmRhcnJheQpxAyhLAHRVAWJ0UnEEKEsBKEsIdGNudW1weQpk"
    "dHlwZQpxBShVAnUxSwBLAXRScQYoSwNVAXxOTk5K/////0r/////SwB0YkkwMApVCP/YAEEKJyJcdGJoAihoAyhLAHRVAWJ0UnEHKEsBKEsGdGgGSTAw"
    "ClUGiVBORw0KdGJlXXEIY251bXB5LmNvcmUubXVsdGlhcnJheQpzY2FsYXIKcQkoaAUoVQJiMUsASwF0UnEKKEsDVQF8Tk5OSv////9K/////0sAdGJV"
    "AQF0UnELYXQu",
    "gAJdcQEoY251bXB5LmNvcmUubXVsdGlhcnJheQpfcmVjb25zdHJ1Y3QKcQJjbnVtcHkKbmRhcnJheQpxA0sAhVUBYodScQQoSwFLCIVjbnVtcHkKZHR5"
    "cGUKcQVVAnUxSwBLAYdScQYoSwNVAXxOTk5K/////0r/////SwB0YolVCP/YAEEKJyJcdGJoAmgDSwCFVQFih1JxByhLAUsGhWgGiVUGiVBORw0KdGJl"
    "XXEIY251bXB5LmNvcmUubXVsdGlhcnJheQpzY2FsYXIKcQloBVUCYjFLAEsBh1JxCihLA1UBfE5OTkr/////Sv////9LAHRiVQEBhlJxC2GGLg==",
]
# The same with str images and bool, by cPickle and, first, by the module pickle.
PYTHON_2_STR = [
    "KChscDAKUydceGZmXHhkOFx4MDBBXG5cJyJcXCcKcDEKYVMnXHg4OVBOR1xyXG4nCnAyCmEobHAzCkkwMQphdHA0Ci4=",
    "KChscDEKUydceGZmXHhkOFx4MDBBXG5cJyJcXCcKcDIKYVMnXHg4OVBOR1xyXG4nCnAzCmEobHA0CkkwMQphdC4=",
    "KF1xAShVCP/YAEEKJyJccQJVBolQTkcNCnEDZV1xBEkwMQphdC4=",
    "gAJdcQEoVQj/2ABBCiciXHECVQaJUE5HDQpxA2VdcQSIYYYu",
]


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "set.bin")


def write(path, content):
    with open(path, "wb") as file:
        file.write(content)
    return path


@pytest.mark.parametrize("written", PYTHON_2_NUMPY + PYTHON_2_STR)
def test_reads_what_python_2_wrote(path, written):
    assert read_bin(write(path, base64.b64decode(written))) == (IMAGES, [True])


def array(image):
    """An image as cv2.imdecode takes it today."""
    return np.frombuffer(image, np.uint8).copy()


def column(image):
    """An image as cv2.imencode returned it in 2018."""
    return array(image)[:, None]


def objects(entries):
    """An object array."""
    found = np.empty(len(entries), object)
    found[:] = entries
    return found


def of_numpy_2(content):
    """The pickle as numpy 2 writes it; without frames, whose lengths would be wrong."""
    if content[2:3] == b"\x95":
        content = content[:2] + content[11:]
    for name in (b"numpy.core.multiarray", b"numpy.core.numeric"):
        new = name.replace(b".core", b"._core")
        content = content.replace(bytes([len(name)]) + name, bytes([len(new)]) + new).replace(b"c" + name, b"c" + new)
    return content


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("entry", [bytes, bytearray, array, column, lambda image: array(image)[None]])
@pytest.mark.parametrize("flag", [bool, int, float, np.bool_, np.int64, np.uint8, np.float32])
def test_reads_every_protocol_of_python_3(path, protocol, entry, flag):
    content = ([entry(image) for image in IMAGES * 2], [flag(0), flag(1)])
    assert read_bin(write(path, pickle.dumps(content, protocol))) == (IMAGES * 2, [False, True])


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("numpy_2", [False, True])
@pytest.mark.parametrize(
    ("images", "flags"),
    [
        ([array(image) for image in IMAGES], [np.bool_(True)]),
        ([column(image) for image in IMAGES], np.array([True])),
        (tuple(IMAGES), np.array([1])),
        (IMAGES, np.array([1], ">i4")),
        (IMAGES, np.array([1], np.uint8)),
        (IMAGES, np.array([1.0])),
        (IMAGES, np.array([1], ">f4")),
        (objects(IMAGES), [True]),
        (objects([column(image) for image in IMAGES]), objects([True])),
        (objects([bytearray(image) for image in IMAGES]), (True,)),
    ],
)
def test_reads_what_the_packers_of_others_wrote(path, protocol, numpy_2, images, flags):
    content = pickle.dumps((images, flags), protocol)
    if numpy_2:
        renamed = of_numpy_2(content)
        assert b"numpy.core" not in renamed
        content = renamed
    assert read_bin(write(path, content)) == (IMAGES, [True])


def test_flags_of_an_array_keep_their_order(path):
    flags = np.array([True, False, False, True, False])
    assert read_bin(write(path, pickle.dumps((IMAGES * 5, flags), 4)))[1] == flags.tolist()


def test_written_files_are_equal_and_open_with_plain_pickle(path, tmp_path):
    other = str(tmp_path / "other.bin")
    write_bin(path, [IMAGES[0], IMAGES[0]] * 2, [True, 0])
    write_bin(other, [np.frombuffer(bytes(IMAGES[0]), np.uint8) for _ in range(4)], (np.bool_(True), False))
    with open(path, "rb") as one, open(other, "rb") as two:
        content = one.read()
        assert content == two.read()
    assert content.startswith(b"\x80\x02")
    for options in ({}, {"encoding": "bytes"}, {"encoding": "latin1"}):
        assert pickle.loads(content, **options) == ([IMAGES[0]] * 4, [True, False])
    assert read_bin(path) == ([IMAGES[0]] * 4, [True, False])
    assert sorted(os.listdir(tmp_path)) == ["other.bin", "set.bin"]


def test_writer_refuses_a_missing_image_and_a_missing_folder(path):
    with pytest.raises(UserError, match="1 images for 1 pairs"):
        write_bin(path, IMAGES[:1], [True])
    with pytest.raises(UserError, match=r"cannot write .*No such file"):
        write_bin(os.path.join(path, "none", "set.bin"), IMAGES, [True])


class _Hostile:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(5))
@pytest.mark.parametrize(
    ("function", "name"), [(os.system, r"(posix|nt)\.system"), (eval, "eval"), (os.mkdir, "mkdir"), (bytes, "bytes")]
)
def test_a_file_that_names_something_else_runs_nothing(path, tmp_path, protocol, function, name):
    marker = tmp_path / "marker"
    argument = {os.system: f"mkdir {marker}", eval: f"__import__('os').mkdir({str(marker)!r})", bytes: 1 << 60}
    hostile = _Hostile(function, argument.get(function, str(marker)))
    write(path, pickle.dumps(([hostile, b""], [True]), protocol))
    with pytest.raises(UserError, match=rf"set\.bin .*names \S*{name}, which could run code"):
        read_bin(path)
    assert not marker.exists()


def test_codecs_encode_serves_for_bytes_alone(path):
    content = pickle.dumps(([b"\xff", b"\xfe"], [True]), 2)
    assert read_bin(write(path, content)) == ([b"\xff", b"\xfe"], [True])
    with pytest.raises(UserError, match="encoding 'rot13'"):
        read_bin(write(path, content.replace(b"X\x06\x00\x00\x00latin1", b"X\x05\x00\x00\x00rot13")))


def test_a_file_cannot_change_the_reader(path):
    """BUILD with a pair of dicts sets attributes of whatever was named before it."""
    code = b"\x80\x02c_codecs\nencode\n(N}X\x07\x00\x00\x00__doc__K\x01stb."
    with pytest.raises(UserError, match="changes something that it names"):
        read_bin(write(path, code))
    write_bin(path, IMAGES, [True])
    assert read_bin(path) == (IMAGES, [True])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (([b"a", b"b"], [True], []), "two lists"),
        ("lists", "two lists"),
        ((b"ab", [True]), "two lists"),
        (([], []), "0 images for 0 pairs"),
        (([b"a", b"b", b"c"], [True]), "3 images for 1 pairs"),
        (([b"a", "b"], [True]), "image 1 is of type str"),
        (([b"a", None], [True]), "image 1 is of type NoneType"),
        (([b"a", b"b"], [2]), "flag 0 is 2, neither"),
        (([b"a", np.zeros((2, 2), np.uint8)], [True]), "an array that is not one row or column"),
        (([b"a", np.zeros(2, np.float32)], [True]), "type f4, not u1"),
        (([b"a", np.array([None])], [True]), "type O8, not u1"),
        (([b"a", b"b"], [np.float64(0.5)]), "flag 0 is 0.5, neither 1"),
        (([b"a", b"b"], [-1]), "flag 0 is -1, neither 1"),
        (([b"a", b"b"], [float("nan")]), "flag 0 is nan, neither 1"),
        (([b"a", b"b"], [10**400]), r"flag 0 is 10+\.\.\.0+, neither 1"),
        (([b"a", b"b"], [np.zeros(1, np.uint8)]), "flag 0 is of type"),
        (([b"a", b"b"], np.array([0.5])), "flag 0 is 0.5, neither 1"),
        (([b"a", b"b"], np.array([2])), "flag 0 is 2, neither"),
        (([b"a", b"b"], np.array(["yes"])), "type U3, not numbers"),
        (({"a": 1}, [True]), "two lists"),
        (([b"a", b"b"], {True}), "set"),
    ],
)
def test_refuses_other_content(path, content, reason):
    with pytest.raises(UserError, match=rf"set\.bin .*{reason}"):
        read_bin(write(path, pickle.dumps(content, 2)))


@pytest.mark.parametrize(
    "content",
    [
        b"\x89PNG\r\n",
        b"no pickle\n",
        b"\x80\x63.",  # protocol 99
        b"\x80\x02T\xff\xff\xff\x7fabc",  # 2 GB are said to follow
        b"\x80\x04\x8e" + b"\xff" * 7 + b"\x0fabc",  # an exabyte
    ],
)
def test_refuses_what_is_no_pickle(path, content):
    with pytest.raises(UserError, match=r"set\.bin is damaged or is no verification set"):
        read_bin(write(path, content))


@pytest.mark.slow
@pytest.mark.parametrize("protocol", range(5))
def test_refuses_every_truncation(path, protocol):
    arrays = [np.frombuffer(image, np.uint8).copy() for image in IMAGES]
    content = pickle.dumps((arrays + IMAGES, [True, np.bool_(False)]), protocol)
    for length in range(len(content)):
        with pytest.raises(UserError, match=r"damaged|is empty"):
            read_bin(write(path, content[:length]))


def test_a_huge_memo_number_takes_no_memory(path):
    """The unpickler in C allocates 268 MB for these 8 bytes, and up to 64 GB for others."""
    write(path, b"\x80\x02]r\xff\xff\xff\x00.")
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match="two lists"):
            read_bin(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_missing_file(path):
    with pytest.raises(UserError, match=r"cannot open .*set\.bin: No such file"):
        read_bin(path)


def test_a_pipe_is_refused(path):
    os.mkfifo(path)
    with pytest.raises(UserError, match=r"cannot open .*set\.bin: it is a pipe, not a file"):
        read_bin(path)


DEEP = b")" + b"\x85" * (1 << 17)  # tuples nested so deeply that their hash ends the process


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x80\x02}" + DEEP + b"Ns.", "a dict whose keys are no names"),
        (b"\x80\x02}(" + DEEP + b"Nu.", "a dict whose keys are no names"),
        (b"(" + DEEP + b"Nd.", "a dict whose keys are no names"),
        (b"\x80\x04\x8f(" + DEEP + b"\x90.", r"the operation b'\\x8f', which plain values do not need"),
        (b"\x80\x04(" + DEEP + b"\x91.", r"the operation b'\\x91'"),
        (b"(](" + DEEP + DEEP + b"e](" + DEEP + b"et.", "image 0 is of type tuple"),
        (b"(" * 100 + b".", "nested too deeply"),
        (b"\x80\x05\x96" + b"\0\0\0\0\1\0\0\0", "cut short"),  # 11 bytes: a bytearray of 4 GB
        (b"\x80\x03B\xff\xff\xff\xff", "cut short"),
        (b"\x80\x04\x95\0\0\0\0\1\0\0\0", "cut short"),
        (b"I" + b"9" * 1000 + b"\n.", "a number of 1001 digits"),
        (b"p" + b"9" * 1000 + b"\n.", "a number of 1001 digits"),
        (b"c" + b"m" * (1 << 20) + b"\nname\n.", r"it names m{57}\.\.\.m{15}\.name, which"),
        (b"c\x1b[2Jos\nsystem\n.", r"it names \\x1b\[2Jos\.system, which"),
        (b"c_codecs\nencode\n(X\1\0\0\0aX\4\0\0\0\x1b[2JtR.", r"in the encoding '\\x1b\[2J'"),
        (b"cbuiltins\nbytearray\n(J\xff\xff\xff\x7ftR.", "cut short or no pickle"),
        (b"cnumpy\ndtype\n(X\4\0\0\0\x1b[2JtRp0\n0.", "the operation b'0'"),
    ],
)
def test_hostile_files_are_refused_in_little_memory(path, content, reason):
    write(path, content)
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=rf"set\.bin is damaged or is no verification set: .*{reason}") as error:
            read_bin(path)
        assert tracemalloc.get_traced_memory()[1] < (1 << 20) + 100 * len(content)
    finally:
        tracemalloc.stop()
    assert len(str(error.value)) < 500


def test_a_file_cannot_name_one_image_without_end(path):
    """A network would see each of them."""
    image = bytes(100)
    content = pickle.dumps(([image] * 120_000, [True] * 60_000), 2)
    with pytest.raises(UserError, match=r"it names 120000 images, more than its \d+ bytes can hold"):
        read_bin(write(path, content))
    content = pickle.dumps(([image] * 20_000, [True] * 10_000), 2)
    assert len(read_bin(write(path, content))[0]) == 20_000


def test_a_text_that_is_encoded_many_times_takes_no_memory(path):
    """Eight bytes of a pickle make a hundred thousand."""
    text = b"X" + (100_000).to_bytes(4, "little") + b"a" * 100_000 + b"q\1"
    once = b"h\0h\1\x85R"
    content = b"\x80\x02](c_codecs\nencode\nq\0" + text + once * 20_000 + b"e]\x86."
    with pytest.raises(UserError, match="it makes more bytes than it has"):
        read_bin(write(path, content))


def test_the_number_of_operations_is_limited(path, monkeypatch):
    monkeypatch.setattr(safe_pickle, "MAX_OPERATIONS", 100)
    write_bin(path, IMAGES * 10, [True] * 10)
    assert len(read_bin(path)[0]) == 20
    write_bin(path, IMAGES * 40, [True] * 40)
    with pytest.raises(UserError, match="it has more than 100 operations"):
        read_bin(path)
