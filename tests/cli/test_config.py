"""--config: files and presets in place of defaults, and errors that name the file and the key."""

import dataclasses
import json
from typing import Any, Optional

import pytest

from insightface_mx.base.errors import UserError
from insightface_mx.cli.config import ConfigParser, Preset, config_text, read_config
from insightface_mx.cli.device import add_device_options
from insightface_mx.cli.fields import add_options, option, read_options
from insightface_mx.cli.main import make_parser
from insightface_mx.cli.types import NOT_NEGATIVE, POSITIVE, Size, image_size


@dataclasses.dataclass(frozen=True)
class Net:
    """Options of a network."""

    network: str = option("r50", "name")
    image_size: Size = option((112, 112), "size", parse=image_size)
    width: float = option(1.0, "multiplier", allowed=POSITIVE)


@dataclasses.dataclass(frozen=True)
class Run:
    """Options of a run."""

    lr_steps: str = option("", "steps")
    keep: int = option(0, "keep", allowed=NOT_NEGATIVE)
    ckpt: int = option(1, "policy", choices=(0, 1, 2))
    seed: Optional[int] = option(None, "seed", allowed=NOT_NEGATIVE)
    resume: Optional[str] = option(None, "resume", parse=str, choices=("auto",), nargs="?", const="auto")
    ce_loss: bool = option(False, "flag")
    ctx: str = option("", "device", own_parser=True)


@dataclasses.dataclass(frozen=True)
class Options:
    """All of them."""

    net: Net = Net()
    run: Run = Run()


PRESETS = {"big": Preset("a big network", {"network": "r100", "width": 2.0})}


def parser() -> ConfigParser:
    made = make_parser("Train.", "train --config big", ConfigParser, options=Options, presets=PRESETS)
    add_options(made, "all", Net, Run)
    add_device_options(made)
    return made


def parse(*argv: Any) -> Options:
    args = parser().parse_args([str(word) for word in argv])
    return Options(read_options(args, Net), read_options(args, Run))


FILES = {
    "json": '{"network": "r34", "image-size": [112, 96], "lr_steps": [3, 5], "seed": null, "ce-loss": true,'
    ' "ctx": "cpu"}',
    "yml": "network: r34\nimage_size: 112, 96\nlr-steps: [3, 5]\nseed:\nce_loss: true\nctx: cpu\n",
    "yaml": "network: r34\nimage-size: '112,96'\nlr_steps: '3,5'\nce_loss: yes\nctx: cpu\n",
    "py": "from easydict import EasyDict\n"
    "config = EasyDict(network='r34', image_size=(112, 96), lr_steps=[3, 5], ce_loss=True)\nconfig.ctx = 'cpu'\n",
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_of_each_kind_takes_the_place_of_defaults(kind, tmp_path):
    file = tmp_path / f"c.{kind}"
    file.write_text(FILES[kind])
    expected = Options(Net("r34", (112, 96)), Run(lr_steps="3,5", ce_loss=True, ctx="cpu"))
    assert parse("--config", file) == expected


@pytest.mark.parametrize("order", [("--config", "big", "--width", "3"), ("--width", "3", "--config", "big")])
def test_the_command_line_overrides(order):
    assert parse(*order) == Options(Net("r100", width=3.0))


def test_gpu_overrides_the_ctx_of_a_file(tmp_path):
    (tmp_path / "c.json").write_text('{"ctx": "cpu"}')
    assert parse("--config", tmp_path / "c.json", "--gpu", "2").run.ctx == "gpu:2"
    assert parse("--config", tmp_path / "c.json").run.ctx == "cpu"


def test_an_abbreviated_config_counts():
    assert parse("--conf", "big").net.network == "r100"


def test_numbers_that_yaml_takes_for_text(tmp_path):
    (tmp_path / "c.yml").write_text("width: 4e-5\nlr_steps: 100\n")
    found = parse("--config", tmp_path / "c.yml")
    assert found == Options(Net(width=4e-5), Run(lr_steps="100"))


@pytest.mark.parametrize(
    "content, message",
    [
        ({"netwrok": "r50"}, r"there is no option 'netwrok' \(similar options: network\)"),
        ({"config": "big"}, "there is no option 'config'"),
        ({"keep": -1}, "keep: -1 is not 0 or more"),
        ({"keep": 1.5}, "keep: '1.5' is not of type int"),
        ({"keep": True}, "keep: True is not text, a number or a list of these"),
        ({"keep": None}, "keep: None is not text, a number or a list of these"),
        ({"ckpt": 7}, "ckpt: '7' is not one of 0, 1, 2"),
        ({"resume": "now"}, "resume: 'now' is not one of auto"),
        ({"ce-loss": 1}, "ce-loss: 1 is not true or false"),
        ({"image_size": [112]}, "image_size: '112' is not an image size"),
        ({"network": {"a": 1}}, "network: {'a': 1} is not text"),
        ({"lr_steps": [[1]]}, r"lr_steps: \[\[1\]\] is not text"),
        ({"width": "wide"}, "width: 'wide' is not of type float"),
        (["network"], "it must hold names of options"),
    ],
)
@pytest.mark.parametrize("kind", ["json", "py"])
def test_wrong_keys_and_values_name_the_file_and_the_key(content, message, kind, tmp_path):
    file = tmp_path / f"c.{kind}"
    file.write_text(json.dumps(content) if kind == "json" else f"config = {content!r}\n")
    with pytest.raises(UserError, match=f"^--config {file}: {message}"):
        parse("--config", file)


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("c.json", '{"network": }', "Expecting value"),
        ("c.json", "[" * 100000, "maximum recursion depth|it must hold names"),
        ("c.yml", "network: [r50", "while parsing a flow sequence"),
        ("c.yml", "!!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("c.py", "config = (", "was never closed|unexpected EOF"),
        ("c.py", "options = {}", "it sets no `config`"),
        ("c.txt", "", "its name must end in .py, .json, .yml or .yaml"),
        ("c.json", "\udcff", "can't decode|codec"),
    ],
)
def test_files_that_cannot_be_read(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=f"^--config {tmp_path}/{name}: .*({message})"):
        parse("--config", tmp_path / name)


def test_a_missing_file_lists_presets():
    with pytest.raises(UserError, match=r"--config bog: there is no such file \(similar presets: big\); presets: big"):
        parse("--config", "bog")
    with pytest.raises(UserError, match=r"--config bog: there is no such file; presets: none"):
        read_config("bog", Options, {})


def test_a_name_that_no_file_has():
    with pytest.raises(UserError, match="there is no such file"):
        read_config("x" * 5000, Options, {})


def test_presets_are_checked_too():
    with pytest.raises(UserError, match="--config bad: there is no option 'depth'"):
        read_config("bad", Options, {"bad": Preset("", {"depth": 1})})


def test_help_lists_presets(capsys):
    with pytest.raises(SystemExit):
        parser().parse_args(["--help"])
    shown = capsys.readouterr().out
    assert "--config FILE|PRESET" in shown
    assert "  big  a big network\n" in shown
    assert "which is executed" in " ".join(shown.split())


def test_written_options_read_back(tmp_path):
    given = Options(Net("r34", (112, 96), 1e-7), Run("3,5", 2, 2, 7, "auto", True, "cpu:2"))
    (tmp_path / "c.json").write_text(config_text(given))
    assert parse("--config", tmp_path / "c.json") == given
    (tmp_path / "c.json").write_text(config_text(given, leave_out=["resume"]))
    assert parse("--config", tmp_path / "c.json") == dataclasses.replace(
        given, run=dataclasses.replace(given.run, resume=None)
    )
    assert set(json.loads(config_text(Options()))) == {
        "network", "image_size", "width", "lr_steps", "keep", "ckpt", "seed", "resume", "ce_loss", "ctx",
    }  # fmt: skip
