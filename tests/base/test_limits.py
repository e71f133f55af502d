"""The table of limits."""

import ast
from collections import Counter
from pathlib import Path

from insightface_mx.base import limits


def test_every_limit_has_a_name_of_its_own():
    """A second limit of the same name would change the first one without a word."""
    lines = ast.parse(Path(limits.__file__).read_text(encoding="utf-8")).body
    names = Counter(line.targets[0].id for line in lines if isinstance(line, ast.Assign))
    assert names
    assert [name for name, count in names.items() if count > 1] == []
