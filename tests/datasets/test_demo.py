"""The demo, with a small network and one epoch."""

import re

import pytest
from harness import run

from insightface_mx.datasets import demo
from insightface_mx.eval import verification


@pytest.mark.slow
def test_the_demo_reports_what_verification_repeats(tmp_path, capsys):
    small = "--network r18 --epochs 1 --version-act relu --version-output GAP --emb-size 8".split()
    run(demo, "--folder", tmp_path, *small)
    out = capsys.readouterr().out
    assert "right with the margin: it is 0 at first" in out[: out.index("batch 1: learning rate 0.0")]
    assert " is far from the usual" not in out
    # the last digits of a landmark, and with them a pixel here and there, depend on the CPU
    assert float(re.search(r"raw pixels    (\d\.\d{5})", out).group(1)) == pytest.approx(0.821, abs=0.004)
    accuracy, command = re.search(r"this network  (\d\.\d{5})\n.*\n.*verification\.py (.*)", out).groups()
    run(verification, *command.split())
    assert f"Accuracy-Flip: {accuracy}+-" in capsys.readouterr().out
