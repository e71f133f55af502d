import re

from insightface_mx.datasets import demo
from insightface_mx.eval import verification


def test_the_demo_reports_what_verification_repeats(tmp_path, capsys):
    small = "--network r18 --epochs 1 --version-act relu --version-output GAP --emb-size 8".split()
    demo.main(["--folder", str(tmp_path), *small])
    out = capsys.readouterr().out
    assert "raw pixels    0.76222" in out
    accuracy, command = re.search(r"this network  (\d\.\d{5})\n.*\n.*verification\.py (.*)", out).groups()
    verification.main(command.split())
    assert f"Accuracy-Flip: {accuracy}+-" in capsys.readouterr().out
