"""Write tables of faces: columns name, label, face, box, score and embedding, as .npz, .csv or .parquet.

A name is a path, whose bytes need not be UTF-8. A .csv has these bytes, an .npz the text that Python makes of them; a
.parquet, which holds UTF-8 alone, has backslash, x and two hexadecimal digits for a byte that is none.
"""

from __future__ import annotations

import csv
import os
from typing import Callable, Dict, Iterable, NamedTuple, Sequence

import numpy as np

from insightface_mx.base.errors import UserError, require
from insightface_mx.files.atomic import atomic_path, report_write_errors, save_npz

CORNERS = ("x1", "y1", "x2", "y2")

Table = Dict[str, np.ndarray]  # column -> values, one for each face
Writer = Callable[[str, Iterable[Table]], None]  # path, and at least one table


class FaceRow(NamedTuple):
    """A row of a table; face: index in the image; box: x1, y1, x2, y2 in pixels; score: 0 to 1."""

    name: str
    label: int
    face: int
    box: np.ndarray
    score: float
    embedding: np.ndarray


def make_table(rows: Sequence[FaceRow], length: int) -> Table:
    """Make a table; length: of an embedding, which a table without rows needs."""
    return {
        "name": np.array([row.name for row in rows], str),
        "label": np.array([row.label for row in rows], np.int64),
        "face": np.array([row.face for row in rows], np.int64),
        "box": np.array([row.box for row in rows], np.float32).reshape(-1, 4),
        "score": np.array([row.score for row in rows], np.float32),
        "embedding": np.array([row.embedding for row in rows], np.float32).reshape(-1, length),
    }


def find_writer(path: str) -> Writer:
    """Return the function that writes the format of the path's ending.

    Raises:
        UserError: There is no such format, or its package is not installed.
    """
    ending = os.path.splitext(path)[1]
    if ending not in WRITERS:
        raise UserError(f"--output {path}: the name must end in {', '.join(WRITERS)}")
    if ending == ".parquet":
        require("deploy", "pyarrow")
    return WRITERS[ending]


def write_npz(path: str, tables: Iterable[Table]) -> None:
    """Write an array for each column, as numpy.load reads them."""
    tables = list(tables)
    columns = {key: np.concatenate([table[key] for table in tables]) for key in tables[0]}
    with report_write_errors(path):
        save_npz(path, columns)


def write_csv(path: str, tables: Iterable[Table]) -> None:
    """Write a line for each face after a line of names; the embedding's columns are e0, e1, ..."""
    with report_write_errors(path), atomic_path(path) as temporary, open(
        temporary, "w", newline="", encoding="utf-8", errors="surrogateescape"
    ) as file:
        lines = csv.writer(file)
        for index, table in enumerate(tables):
            if index == 0:
                length = table["embedding"].shape[1]
                lines.writerow(["name", "label", "face", *CORNERS, "score", *(f"e{i}" for i in range(length))])
            for name, label, face, box, score, embedding in zip(*table.values()):
                values = (f"{value:.9g}" for value in (*box, score, *embedding))
                lines.writerow([name, label, face, *values])


def write_parquet(path: str, tables: Iterable[Table]) -> None:
    """Write a row for each face; the column embedding holds lists of float32."""
    require("deploy", "pyarrow")
    import pyarrow
    from pyarrow import parquet

    with report_write_errors(path), atomic_path(path) as temporary:
        file: parquet.ParquetWriter = None
        for table in tables:
            length = table["embedding"].shape[1]
            embeddings = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(table["embedding"].ravel()), length)
            corners = dict(zip(CORNERS, table["box"].T.copy()))
            paths = (name.encode("utf-8", "surrogateescape") for name in table["name"].tolist())
            names = pyarrow.array([path.decode("utf-8", "backslashreplace") for path in paths], pyarrow.string())
            plain = {"name": names, "label": table["label"], "face": table["face"]}
            rows = pyarrow.table({**plain, **corners, "score": table["score"], "embedding": embeddings})
            file = file or parquet.ParquetWriter(temporary, rows.schema)
            file.write_table(rows)
        file.close()


WRITERS: dict[str, Writer] = {".npz": write_npz, ".csv": write_csv, ".parquet": write_parquet}
