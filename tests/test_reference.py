"""Pages are written from the code: docs/reference/options.md from the options, SECURITY.md's table from the limits."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from insightface_mx.base import limits

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def reference():
    """The functions of tools/write_reference.py."""
    return runpy.run_path(str(ROOT / "tools" / "write_reference.py"))


def test_the_page_is_current(reference):
    committed = reference["PAGE"].read_text(encoding="utf-8")
    assert reference["page"]() == committed, "run: python tools/write_reference.py"


def test_the_limits_in_the_security_page_are_those_of_the_module(reference):
    committed = reference["SECURITY"].read_text(encoding="utf-8")
    assert reference["security_page"]() == committed, "run: python tools/write_reference.py"
    names = [name for name in vars(limits) if name.isupper()]
    rows = re.findall(r"^\| `([A-Z0-9_]+)` \|", committed, re.MULTILINE)
    assert sorted(rows) == sorted(names)
    assert f"| `MAX_PIXELS` | {limits.MAX_PIXELS:,} | of an image" in committed


def test_a_limit_that_is_given_twice_is_an_error(reference):
    with pytest.raises(ValueError, match=r"limits\.py: MAX_A is given twice"):
        list(reference["_limits"]("# One\nMAX_A = 1 << 3  # bytes\n\n# Other\nMAX_A = 5\n"))


def test_rows_say_what_an_option_is(reference):
    lines = reference["page"]().splitlines()
    assert "| `--wd` | weight decay of every parameter | number | `0.0005` | 0 or more | must match |" in lines
    assert "| `4` ArcFace | `--margin-s` more than 0; `--margin-m` at least 0 and less than pi / 2 |" in lines
    (row,) = [line for line in lines if line.startswith("| `--on-nan`")]
    assert row.endswith("| text | `stop` | stop, skip, rewind | may change |")
    (row,) = [line for line in lines if line.startswith("| `cosface-r50`")]
    assert "`--loss-type 2`" in row
    assert len([line for line in lines if line.startswith("| `--loss-type`")]) == 2  # of softmax, and of triplets
