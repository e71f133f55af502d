"""Without the packages of the extras: --help works, and use is one line with the pip command."""

import pathlib
import re
import subprocess
import sys

import pytest

from insightface_mx.base.errors import pip_command

COMMANDS = ["export_onnx", "import_onnx", "quantize"]
ONNX = f"onnx and onnxruntime must be installed for this: {pip_command('onnx')}"
NNCF = f"int8 needs nncf: before Python 3.10 pip install nncf, otherwise {pip_command('deploy')}"


QUANTIZE = ["--model", "none,1", "--output", "a.onnx", "--calibration", "none", "--pairs", "none.bin"]
HIDE = """
import importlib.machinery
find_spec = importlib.machinery.PathFinder.find_spec
importlib.machinery.PathFinder.find_spec = lambda name, *rest: None if name in {hidden} else find_spec(name, *rest)
"""


def without(packages, code):
    """Run Python code in a process that does not find these packages."""
    lines = HIDE.format(hidden=packages) + code
    return subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_help_needs_no_extra(command):
    code = f"from insightface_mx.deploy.{command} import main; main(['--help'])"
    done = without(["onnx", "onnxruntime", "nncf", "torch"], code)
    assert (done.returncode, done.stderr) == (0, "")
    assert "example:" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("packages", "command", "argv", "message"),
    [
        (["onnx", "onnxruntime"], "export_onnx", ["--model", "none,1", "--output", "a.onnx"], ONNX),
        (["onnx", "onnxruntime"], "import_onnx", ["a.onnx", "--output", "a"], ONNX),
        (
            ["onnx", "onnxruntime"],
            "quantize",
            QUANTIZE,
            ONNX,
        ),
        (
            ["nncf"],
            "quantize",
            QUANTIZE,
            NNCF,
        ),
        (["torch"], "import_onnx", ["--torch", "a.pth", "--output", "a"], pip_command("torch")),
        (["torch"], "export_onnx", ["--model", "none,1", "--torch", "a"], pip_command("torch")),
    ],
)
def test_use_is_one_line_and_status_2(packages, command, argv, message):
    done = without(packages, f"from insightface_mx.deploy.{command} import main; main({argv!r})")
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert line.endswith(message)


@pytest.mark.slow
def test_modules_are_imported_without_the_extras():
    code = """
from insightface_mx.base.errors import UserError
from insightface_mx.conversion import export, importer, iresnet, proof, quantize
from insightface_mx.onnx_files import file, runtime
for use in (lambda: file.load("a.onnx"), lambda: runtime.open_model("a.onnx"), lambda: iresnet.load("a.pth"),
            lambda: quantize.quantize("a.onnx", "b.onnx", None)):
    try:
        use()
    except UserError as error:
        print(str(error).partition("pip install ")[2])
"""
    done = without(["onnx", "onnxruntime", "nncf", "torch"], code)
    assert (done.returncode, done.stderr) == (0, "")
    extras = [line[len("'.[") :].partition("]'")[0] for line in done.stdout.splitlines()]
    assert extras == ["onnx", "onnx", "torch", "onnx"]


def test_the_documentation_shows_commands_that_work_from_a_clone():
    text = (pathlib.Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    extras = re.findall(r"pip install (?:-\S+ \S+ )*(?:-e )?'\.\[([\w,]+)\]'", text)
    declared = {"cpu", "cu112", "detect", "demo", "onnx", "deploy", "torch", "fast", "plot"}
    assert len(extras) >= 5
    assert {name for group in extras for name in group.split(",")} <= declared
    assert "pip install 'insightface-mx" not in text
