"""Tables of faces: columns name, label, face, box, score and embedding, as .npz, .csv or .parquet."""

import csv
import importlib.util
import os

import numpy as np

from insightface_mx.base.errors import UserError
from insightface_mx.formats.atomic import atomic_path, report_write_errors

CORNERS = ("x1", "y1", "x2", "y2")


def make(rows, length):
    """A table, dict column -> array, of rows (name, label, face's number, box, score, embedding).

    length: of an embedding, which a table without rows needs.
    """
    names, labels, faces, boxes, scores, embeddings = zip(*rows) if rows else [()] * 6
    return {
        "name": np.array(names, str),
        "label": np.array(labels, np.int64),
        "face": np.array(faces, np.int64),
        "box": np.array(boxes, np.float32).reshape(-1, 4),
        "score": np.array(scores, np.float32),
        "embedding": np.array(embeddings, np.float32).reshape(-1, length),
    }


def writer(path):
    """The function (path, iterable of tables) that writes what the file's ending says. UserError: it cannot be had."""
    ending = os.path.splitext(path)[1]
    if ending not in WRITERS:
        raise UserError(f"--output {path}: the name must end in {', '.join(WRITERS)}")
    if ending == ".parquet" and not importlib.util.find_spec("pyarrow"):
        raise UserError(f"--output {path} needs pyarrow: pip install pyarrow, or choose .npz or .csv")
    return WRITERS[ending]


def write_npz(path, tables):
    """An array for each column, read by numpy.load."""
    tables = list(tables)
    columns = {key: np.concatenate([table[key] for table in tables]) for key in tables[0]}
    with report_write_errors(path), atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **columns)


def write_csv(path, tables):
    """A line for each face behind a line of names; the embedding's columns are e0, e1, ..."""
    with report_write_errors(path), atomic_path(path) as temporary, open(
        temporary, "w", newline="", encoding="utf-8"
    ) as file:
        lines = csv.writer(file)
        for number, table in enumerate(tables):
            if number == 0:
                length = table["embedding"].shape[1]
                lines.writerow(["name", "label", "face", *CORNERS, "score", *(f"e{i}" for i in range(length))])
            for name, label, face, box, score, embedding in zip(*table.values()):
                numbers = (f"{value:.9g}" for value in (*box, score, *embedding))
                lines.writerow([name, label, face, *numbers])


def write_parquet(path, tables):
    """A row for each face; the column embedding holds lists of float32."""
    import pyarrow
    from pyarrow import parquet

    with report_write_errors(path), atomic_path(path) as temporary:
        file = None
        for table in tables:
            length = table["embedding"].shape[1]
            embeddings = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(table["embedding"].ravel()), length)
            corners = dict(zip(CORNERS, table["box"].T.copy()))
            plain = {key: table[key] for key in ("name", "label", "face")}
            rows = pyarrow.table({**plain, **corners, "score": table["score"], "embedding": embeddings})
            file = file or parquet.ParquetWriter(temporary, rows.schema)
            file.write_table(rows)
        file.close()


WRITERS = {".npz": write_npz, ".csv": write_csv, ".parquet": write_parquet}
