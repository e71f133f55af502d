"""The files of IJB and of MegaFace: lists of templates, pairs and galleries, feature files and cleaning lists."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator

import numpy as np
from hostile.mutations import LONG, file_cases, with_file
from hostile.rule import EITHER, Case, Group

from insightface_mx.eval.searches.face_sets import feature_blocks, open_faces
from insightface_mx.eval.searches.set_checks import CleaningList
from insightface_mx.eval.template_sets.template_set import read_set
from insightface_mx.formats.megaface import write_feature

POINTS = "38.3 51.7 73.5 51.5 56.0 71.7 41.5 92.4 70.7 92.2"
META = {
    "face_tid_mid.txt": "".join(f"{index}.jpg {1 + index // 2} {index % 3}\n" for index in range(8)),
    "name_5pts_score.txt": "".join(f"{index}.jpg {POINTS} 0.9\n" for index in range(8)),
    "template_pair_label.txt": "1 2 1\n1 3 0\n2 4 0\n3 4 1\n",
    "1N_gallery_G1.csv": "TEMPLATE_ID,SUBJECT_ID\n1,10\n",
    "1N_gallery_G2.csv": "TEMPLATE_ID,SUBJECT_ID\n3,20\n",
    "1N_probe_mixed.csv": "TEMPLATE_ID,SUBJECT_ID\n2,10\n4,20\n",
}
FOLDER = "IJBC/meta/ijbc_"
OWN = "image,template,medium,subject,score\na.jpg,t1,m1,s1,0.9\nb.jpg,t2,m1,s1,0.8\nc.jpg,t3,m1,s2,0.7\n"
FEATURES, LISTED = ("p1/a.jpg_net.bin", "p1/b.jpg_net.bin", "p2/c.jpg_net.bin"), "noises.txt"


def prepare_templates(folder: Path) -> None:
    (folder / "IJBC/meta").mkdir(parents=True)
    for name, text in META.items():
        (folder / f"{FOLDER}{name}").write_text(text)
    (folder / "own.csv").write_text(OWN)


def template_cases(good: Path) -> Iterator[Case]:
    for name, text in META.items():
        path = f"{FOLDER}{name}"
        yield from file_cases(good, path, flips=16, cuts=5, words=8, expect_foreign=EITHER)
        for kind, line in (
            ("a long line", LONG),
            ("a huge number", "9" * 400),
            ("zero bytes", "\0\0 1 1"),
            ("signs", "-1 +1 1"),
        ):
            yield Case(f"{kind} in {name}", with_file(good, path, f"{text}{line}\n".encode()))
        yield Case(f"{name} of many lines", with_file(good, path, text.encode() * 20_000))
    yield from file_cases(good, "own.csv", flips=30, cuts=8, words=12, expect_foreign=EITHER)


def read_templates(folder: Path) -> None:
    """Read both kinds of sets; what is read fits together."""
    for path in ("IJBC", "own.csv"):
        found = read_set(str(folder / path))
        count = len(found.images.photos)
        assert count == len(found.images.templates) == len(found.images.media) > 0
        if found.images.scores is not None:
            assert np.isfinite(found.images.scores).all()


def prepare_features(folder: Path) -> None:
    for index, name in enumerate(FEATURES):
        write_feature(str(folder / "set" / name), np.arange(1.0, 9.0) + index)
    (folder / LISTED).write_text("# noisy faces\np1/b.jpg\n1\tp9/z.jpg\n")


def feature_cases(good: Path) -> Iterator[Case]:
    yield from file_cases(good, f"set/{FEATURES[0]}", flips=60, cuts=15, words=30)
    yield from file_cases(good, LISTED, flips=20, cuts=5, words=8, expect_foreign=EITHER)


def read_features(folder: Path) -> None:
    """Read a set without the faces of the list; embeddings have unit length."""
    faces = CleaningList(str(folder / LISTED)).clean(open_faces(str(folder / "set"), "folder"))
    rows = np.concatenate([block.rows for block in feature_blocks(faces)])
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


GROUPS = [
    Group("templates", prepare_templates, template_cases, read_templates),
    Group("features", prepare_features, feature_cases, read_features),
]
