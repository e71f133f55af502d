"""The restricted unpickler: it calls what an allow-list has for a name, and nothing else."""

import io
import os
import pickle

import pytest

from insightface_mx.files import safe_pickle


class Point:
    def __init__(self, *values):
        self.values = values


def load(content, **allowed):
    return safe_pickle.load(io.BytesIO(content), {name.replace("__", "."): make for name, make in allowed.items()})


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_need_no_permission(protocol):
    value = [1, -(2**70), 0.5, "text", None, True, {"key": (1, 2)}, [[], {}], ()]
    assert load(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", range(5))
def test_the_stand_in_is_called_in_place_of_what_is_named(protocol, tmp_path):
    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "folder"),)

    assert load(pickle.dumps(Attack(), protocol), posix__mkdir=lambda path: ["called", path]) == [
        "called",
        str(tmp_path / "folder"),
    ]
    with pytest.raises(pickle.UnpicklingError, match=r"names posix\.mkdir, which could run code; nothing was run"):
        load(pickle.dumps(Attack(), protocol))
    assert not os.listdir(tmp_path)


def test_a_class_is_replaced_where_a_pickle_makes_an_object_of_it():
    """Protocol 2 has an operation of its own for that, which calls __new__."""
    code = b"\x80\x02csome\nname\n(K\x01K\x02t\x81."
    assert load(code, some__name=Point).values == (1, 2)
    assert load(code, some__name=lambda *values: sum(values)) == 3


def test_names_of_numpy_2_are_those_of_numpy_1():
    code = b"cnumpy._core.multiarray\nscalar\n)R."
    assert load(code, numpy__core__multiarray__scalar=lambda: "called") == "called"


@pytest.mark.parametrize("state", [b"}X\x06\x00\x00\x00valuesK\x01s", b"N}X\x06\x00\x00\x00valuesK\x01s\x86"])
def test_a_pickle_cannot_change_what_it_names(state):
    """BUILD sets attributes of the object before it, here of the class itself."""
    with pytest.raises(pickle.UnpicklingError, match="changes something"):
        load(b"\x80\x02csome\nname\n" + state + b"b.", some__name=Point)
    assert not hasattr(Point, "values")


@pytest.mark.parametrize(
    "content", [b"", b"no pickle", b"\x80\x63.", b"\x80\x02]", b"\x80\x02T\xff\xff\xff\x7fabc", b"\x82\x01."]
)
def test_damage(content):
    with pytest.raises(safe_pickle.DAMAGE):
        load(content)
