"""Files of --config, and words of the command line. A .py file of --config is code by design: no case here is one."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any, Callable, Iterator

from hostile.mutations import LONG, file_cases, with_file
from hostile.rule import EITHER, ERROR, Case, Group

from insightface_mx import train_softmax
from insightface_mx.cli.config import read_config
from insightface_mx.datasets import build, check, edit, info, pairs, unpack
from insightface_mx.deploy import compare, embed, export_onnx, import_onnx, model_slim, quantize
from insightface_mx.eval import verification
from insightface_mx.eval.searches import identify
from insightface_mx.eval.template_sets import ijb
from insightface_mx.options import SoftmaxOptions
from insightface_mx.presets import PRESETS

FILES = {
    "run.json": '{"network": "r18", "lr": 0.1, "lr_steps": [10, 20], "fc7_no_bias": true}',
    "run.yml": "network: r18\nlr: 0.1\nlr_steps: [10, 20]\nfc7_no_bias: true\n",
}
COMMANDS = {
    "train": train_softmax,
    "build": build,
    "check": check,
    "edit": edit,
    "info": info,
    "pairs": pairs,
    "unpack": unpack,
    "compare": compare,
    "embed": embed,
    "export": export_onnx,
    "import": import_onnx,
    "slim": model_slim,
    "quantize": quantize,
    "verify": verification,
    "ijb": ijb,
    "identify": identify,
}


def prepare(folder: Path) -> None:
    for name, text in FILES.items():
        (folder / name).write_text(text)


def config_cases(good: Path) -> Iterator[Case]:
    for name in FILES:
        yield from file_cases(good, name, flips=24, cuts=6, words=4, expect_foreign=EITHER)
    laughs = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    for name, text in {
        "yaml that calls": "network: !!python/object/apply:os.system ['touch canary']\n",
        "yaml that makes an object": "network: !!python/object/new:subprocess.Popen [['true']]\n",
        "yaml that names a module": "network: !!python/module:os\n",
        "a billion laughs": laughs,
        "a billion laughs as an option": laughs + "network: *a11\n",
        "aliases of itself": "a: &a [*a]\nnetwork: *a\n",
        "merge keys": "".join(
            f"m{i}: &m{i}\n  <<: [{', '.join([f'*m{i - 1}'] * 9) if i else ''}]\n" for i in range(12)
        ),
        "deep flow": "network: " + "[" * 20_000,
        "deep blocks": "".join(" " * i + "- \n" for i in range(800)),
        "binary": "network: !!binary aGVsbG8=\n",
        "a date": "network: 2001-12-14\n",
        "a set": "network: !!set {a, b}\n",
        "a sexagesimal": "lr: 190:20:30\n",
        "a long number": f"lr: {LONG}\n",
        "infinity": "lr: .inf\n",
        "not a number": "lr: .nan\n",
        "several documents": "a: 1\n---\nb: 2\n",
        "a key that is a list": "[1, 2]: 3\n",
        "a key that is null": "~: 3\n",
        "tabs": "network:\tr18\n\tlr: 1\n",
        "escapes": 'network: "\\e[2J\\e[31m"\n',
        "a zero byte": 'network: "\\0"\n',
    }.items():
        yield Case(f"run.yml: {name}", with_file(good, "run.yml", text.encode()), EITHER)
    values: dict[str, Any] = {
        "network": [None, 3, [], {}, "x" * 100_000, "\x1b[2J", True, "r99999", "no such"],
        "lr": [None, "x", -1, 1e400, [], {}, "²", LONG, True, "nan", "inf", "0x10"],
        "lr_steps": [[1, None], ["²"], [LONG], [[1]], "1,x", [-1], [1.5], list(range(10_000))],
        "image_size": [
            "²,112",
            f"{LONG},112",
            "99999999,99999999",
            [112],
            [112, 112, 112],
            "0,0",
            "-1,5",
            "nan,nan",
            None,
        ],
        "per_batch_size": [0, -1, 2**70, LONG, "²", 1.5, None],
        "fc7_no_bias": ["true", 1, None, []],
        "seed": [-1, 2**70, LONG, 1.5],
        "config": ["run.json", "other"],
        "resume": [True, "yes"],
        "no_such_option": [1],
        "__class__": ["x"],
        "": ["x"],
        "\x1b[2J": [1],
        "k" * 100_000: [1],
    }
    for key, several in values.items():
        for value in several:
            text = json.dumps({key: value})
            known = "h28 " if "99999999,9" in text else "h25 " if "²" in str(value) or LONG in str(value) else ""
            yield Case(f"{known}run.json: {text[:40]!r}", with_file(good, "run.json", text.encode()))


def read_configs(folder: Path) -> None:
    """Read both files."""
    for name in FILES:
        read_config(str(folder / name), SoftmaxOptions, PRESETS)


WORDS = (
    "²",
    LONG,
    "-1",
    "0",
    "nan",
    "inf",
    "1e400",
    "",
    " ",
    "\x1b[2J",
    "x" * 10_000,
    "\udcff",
    "a\0b",
    "٥",
    "1_0",
    "/dev/zero",
)
OPTIONS = {  # command: options whose values are words of a user
    "train": (
        "--image-size",
        "--per-batch-size",
        "--lr",
        "--lr-steps",
        "--network",
        "--data-dir",
        "--pretrained",
        "--prefix",
        "--target",
        "--ctx",
        "--emb-size",
        "--seed",
        "--margin-s",
        "--config",
        "--freeze",
        "--workers",
    ),
    "verify": ("--model", "--image-size", "--max", "--target", "--batch-size", "--nfolds", "--ctx", "--data-dir"),
    "identify": ("--model", "--gallery", "--probes", "--distractors", "--exclude", "--ranks", "--csv", "--algorithm"),
    "ijb": ("--model", "--image-size", "--images", "--landmarks", "--features", "--json", "--csv", "--batch-size"),
    "embed": ("--model", "--image-size", "--output", "--root", "--gpu"),
    "compare": ("--model", "--calibration", "--far", "--threshold"),
    "slim": ("--model",),
    "export": ("--model", "--image-size", "--output"),
    "import": ("--mean", "--std", "--output", "--torch"),
    "quantize": ("--model", "--calibration", "--pairs"),
    "build": ("--image-size", "--hold-out", "--workers"),
    "pairs": ("--list", "--workers"),
    "info": ("--plot",),
}
NEEDED = {  # command: what else it needs; nothing of it exists
    "train": ["--data-dir", "nothing", "--prefix", "out/m"],
    "verify": ["--data-dir", "nothing", "--model", "nothing,1"],
    "identify": ["--gallery", "nothing", "--probes", "nothing", "--model", "nothing,1"],
    "ijb": ["nothing", "--model", "nothing,1"],
    "embed": ["nothing.jpg", "--model", "nothing,1", "--output", "out.npz"],
    "compare": ["a.jpg", "b.jpg", "--model", "nothing,1"],
    "slim": ["--model", "nothing,1"],
    "export": ["--model", "nothing,1", "--output", "out.onnx"],
    "import": ["nothing.onnx", "--output", "out"],
    "quantize": ["--model", "nothing,1", "--output", "out.onnx", "--calibration", "nothing", "--pairs", "nothing.bin"],
    "build": ["nothing", "--output", "out"],
    "pairs": ["--list", "nothing.txt", "--output", "out.bin"],
    "info": ["nothing"],
}


def word_cases(good: Path) -> Iterator[Case]:
    for command, options in OPTIONS.items():
        for option in options:
            for word in WORDS:
                known = "h25 " if word in ("²", LONG) and option in ("--image-size", "--model") else ""
                argv = [command, *NEEDED[command], option, word]
                yield Case(f"{known}{command} {option} {word[:10]!r}", _writer(argv), ERROR)
    for command in ("train", "verify", "embed", "export"):
        argv = [command, *NEEDED[command], "--image-size", "99999999,99999999"]
        yield Case(f"h28 {command} --image-size 99999999,99999999", _writer(argv), ERROR)


def _writer(argv: list[str]) -> Callable[[Path], object]:
    return lambda folder: (folder / "argv").write_text(json.dumps(argv))


def run_command(folder: Path) -> None:
    """Run a command whose files do not exist: it must end with status 2 and a short message."""
    command, *argv = json.loads((folder / "argv").read_text())
    with contextlib.redirect_stdout(io.StringIO()):
        COMMANDS[command].main(argv)


GROUPS = [
    Group("config", prepare, config_cases, read_configs),
    Group("command lines", prepare, word_cases, run_command),
]
