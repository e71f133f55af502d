"""docs/reference/options.md is written from the options; this fails while the page is not the current one."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def reference():
    """The functions of tools/write_reference.py."""
    return runpy.run_path(str(ROOT / "tools" / "write_reference.py"))


def test_the_page_is_current(reference):
    committed = reference["PAGE"].read_text(encoding="utf-8")
    assert reference["page"]() == committed, "run: python tools/write_reference.py"


def test_rows_say_what_an_option_is(reference):
    lines = reference["page"]().splitlines()
    assert "| `--wd` | weight decay of every parameter | number | `0.0005` | 0 or more | must match |" in lines
    assert "| `4` ArcFace | `--margin-s` more than 0; `--margin-m` at least 0 and less than pi / 2 |" in lines
    (row,) = [line for line in lines if line.startswith("| `--on-nan`")]
    assert row.endswith("| text | `stop` | stop, skip, rewind | may change |")
    (row,) = [line for line in lines if line.startswith("| `cosface-r50`")]
    assert "`--loss-type 2`" in row
    assert len([line for line in lines if line.startswith("| `--loss-type`")]) == 2  # of softmax, and of triplets
