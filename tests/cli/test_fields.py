"""Options as dataclasses: what the parser makes of a field, and what comes back."""

import argparse
import dataclasses
from typing import Optional

import pytest

from insightface_mx.base.errors import UserError
from insightface_mx.cli.fields import (
    add_options,
    changed,
    group_fields,
    option,
    option_name,
    parse_value,
    read_options,
    refuse_idle,
)
from insightface_mx.cli.types import AT_LEAST_ONE, NOT_NEGATIVE, Size, image_size


@dataclasses.dataclass(frozen=True)
class Data:
    """Options of one group."""

    image_size: Size = option((112, 112), "size", parse=image_size, metavar="H,W")
    rate: float = option(0.1, "rate", allowed=NOT_NEGATIVE)
    name: str = option("", "name", choices=("", "a", "b"))
    quick: bool = option(False, "flag")
    seed: Optional[int] = option(None, "seed", allowed=AT_LEAST_ONE)
    ctx: str = option("", "device", own_parser=True)


@dataclasses.dataclass(frozen=True)
class More:
    """Options of another group."""

    steps: int = option(3, "steps", allowed=AT_LEAST_ONE, may_change=True)


@dataclasses.dataclass(frozen=True)
class Options:
    """Both groups."""

    data: Data = Data()
    more: More = More()


def parser(with_ctx=True):
    made = argparse.ArgumentParser()
    add_options(made, "all", Data, More)
    if with_ctx:
        made.add_argument("--ctx", default="")
    return made


def test_defaults_come_back():
    assert read_options(parser().parse_args([]), Data) == Data()
    assert read_options(parser().parse_args([]), More) == More(3)


def test_values_have_the_types_of_the_fields():
    argv = "--image-size 112,96 --rate 1 --name b --quick --seed 7 --ctx cpu".split()
    found = read_options(parser().parse_args(argv), Data)
    assert found == Data((112, 96), 1.0, "b", True, 7, "cpu")
    assert [type(value) for value in dataclasses.astuple(found)] == [tuple, float, str, bool, int, str]


def test_help_has_metavar_choices_and_group():
    text = parser().format_help()
    assert "\nall:\n" in text
    assert "--image-size H,W" in text
    assert "--name {,a,b}" in text
    assert "--quick  " in text  # a flag without a value


@pytest.mark.parametrize(
    "argv, message",
    [
        (["--name", "c"], "invalid choice: 'c'"),
        (["--rate", "fast"], "invalid float value: 'fast'"),
        (["--rate", "-0.5"], "argument --rate: -0.5 is not 0 or more"),
        (["--seed", "0"], "argument --seed: 0 is not 1 or more"),
        (["--seed", "1.5"], "invalid int value: '1.5'"),
        (["--image-size", "112"], "is not an image size"),
        (["--quick", "yes"], "unrecognized arguments: yes"),
    ],
)
def test_wrong_values(argv, message, capsys):
    with pytest.raises(SystemExit):
        parser().parse_args(argv)
    assert message in capsys.readouterr().err


def test_a_field_that_the_parser_lacks_fails_when_it_is_read():
    with pytest.raises(AttributeError, match="ctx"):
        read_options(parser(with_ctx=False).parse_args([]), Data)


def test_a_number_without_a_range_is_refused_when_it_is_declared():
    with pytest.raises(TypeError, match="declare the range of the option 'steps'"):
        option(3, "steps")
    assert option(3, "steps", choices=(3, 4)).metadata["allowed"] is None


def test_options_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Data().rate = 1.0


def test_names_of_options_and_groups():
    assert option_name("lr_steps") == "--lr-steps"
    found = [(group, field.name, field.metadata["may_change"]) for group, field in group_fields(Options)]
    assert found[0] == ("data", "image_size", False)
    assert found[-1] == ("more", "steps", True)
    assert len(found) == 7


def test_options_that_cannot_act():
    assert changed(Data()) == []
    given = Data((112, 96), rate=0.2, quick=True)
    assert changed(given) == ["--image-size", "--rate", "--quick"]
    assert changed(given, "quick", "seed") == ["--quick"]
    refuse_idle([], "with --x")
    with pytest.raises(UserError, match=r"^--rate has no effect with --x: leave it out$"):
        refuse_idle(["--rate"], "with --x: leave it out")
    with pytest.raises(UserError, match=r"^--rate and --quick have no effect without --x$"):
        refuse_idle(["--rate", "--quick"], "without --x")


def test_a_value_is_parsed_as_on_the_command_line():
    fields = {field.name: field for field in dataclasses.fields(Data)}
    assert parse_value(fields["image_size"], Size, "112, 96") == (112, 96)
    assert parse_value(fields["rate"], float, "1e-3") == 0.001
    assert parse_value(fields["seed"], Optional[int], "7") == 7
    with pytest.raises(argparse.ArgumentTypeError, match="nan is not 0 or more"):
        parse_value(fields["rate"], float, "nan")
    with pytest.raises(argparse.ArgumentTypeError, match="'fast' is not of type float"):
        parse_value(fields["rate"], float, "fast")
    with pytest.raises(argparse.ArgumentTypeError, match="'c' is not one of , a, b"):
        parse_value(fields["name"], str, "c")
