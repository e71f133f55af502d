"""Build a tree in which import names are paths, out of links: build/tree/insightface_mx/losses.py is src/losses.py.

    python tools/link_tree.py && MYPYPATH=build/tree mypy -p insightface_mx

The source folders bear other names than the packages (setup.py maps them). Type checkers, import-linter and other tools
that know no such mapping read the tree instead.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TREE = ROOT / "build" / "tree"
PACKAGE = "insightface_mx"


def package_folders() -> dict[str, str]:
    """Read from setup.py which folder is which package: package name -> folder."""
    return dict(re.findall(r'"(insightface_mx[\w.]*)": "([\w/]+)"', (ROOT / "setup.py").read_text(encoding="utf-8")))


def build() -> None:
    """Make the tree again from nothing: links to the files of src, and a link to the folder of each other package."""
    shutil.rmtree(TREE, ignore_errors=True)
    folders = package_folders()
    top = TREE / PACKAGE
    top.mkdir(parents=True)
    for file in (ROOT / folders.pop(PACKAGE)).iterdir():
        if file.is_file():
            (top / file.name).symlink_to(file)
    for package, folder in folders.items():
        name = package[len(PACKAGE) + 1 :]
        if "." not in name:  # otherwise it is in the folder of another package
            (top / name).symlink_to(ROOT / folder)


if __name__ == "__main__":
    build()
