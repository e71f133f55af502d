"""make-pairs on the lists of CALFW, CPLFW, AgeDB and RFW, and what it says of folds."""

import csv
import os

import numpy as np
import pytest
from brightness_set import face
from harness import error_of, run
from scipy.io import savemat

from insightface_mx.datasets import pairs
from insightface_mx.formats.verification_set import read_bin
from insightface_mx.photos import pair_lists, pair_table


def make_pairs(tmp_path, kind, path, *more):
    output = tmp_path / "pairs.bin"
    common = ["--output", output, "--aligned", "--image-size", "32,32", "--workers", 1]
    run(pairs, "--format", kind, "--list", path, *more, *common)
    return read_bin(str(output))


def write_photos(folder, *names):
    os.makedirs(folder, exist_ok=True)
    for index, name in enumerate(names):
        (folder / name).write_bytes(face(index % 40, index // 40))


def calfw_lines(count, label):
    """As CALFW has them: all genuine pairs, then all others; a genuine pair's label is its fold."""
    genuine = [f"P{i}_0001.jpg {label(i)}\nP{i}_0002.jpg {label(i)}" for i in range(count)]
    return genuine + [f"P{i}_0001.jpg 0\nQ{i}_0001.jpg 0" for i in range(count)]


@pytest.mark.parametrize(("kind", "label"), [("calfw", lambda i: i // 2 + 1), ("cplfw", lambda i: 1)])
def test_lists_of_two_lines_are_put_in_ten_folds(tmp_path, kind, label):
    (tmp_path / "list.txt").write_text("\n".join(calfw_lines(20, label)) + "\n")
    found, skipped = pair_lists.read(kind, str(tmp_path / "list.txt"), "root")
    assert skipped == []
    assert [pair.same for pair in found] == [True, True, False, False] * 10
    assert found[2] == ("root/P0_0001.jpg", "root/Q0_0001.jpg", False, "P0", "Q0", "")
    assert found[5] == ("root/P3_0001.jpg", "root/P3_0002.jpg", True, "P3", "P3", "")
    assert pair_lists.fold_problems(found) == []


def test_a_calfw_set_and_its_table(tmp_path):
    write_photos(tmp_path, "Ann_B_0001.jpg", "Ann_B_0002.jpg", "Cy_1.jpg")
    lines = ["Ann_B_0001.jpg 3", "Ann_B_0002.jpg 3", "Ann_B_0001.jpg 0", "Cy_1.jpg\t0", "Cy_1.jpg 0", "Cy_1.jpg 4"]
    (tmp_path / "list.txt").write_text("\n".join([*lines, "Cy_1.jpg"]))
    images, same = make_pairs(tmp_path, "calfw", tmp_path / "list.txt")
    assert (images, same) == ([face(0), face(1), face(0), face(2)], [True, False])
    with open(tmp_path / "pairs-skipped.csv", newline="") as file:
        rows = list(csv.reader(file))[1:]
    assert [row[0] for row in rows] == [f"{tmp_path}/list.txt:5", f"{tmp_path}/list.txt:7"]
    assert rows[0][1].startswith("a pair is two lines of a file and a label")
    table, reason = pair_table.find_table(str(tmp_path / "pairs.bin"), same)
    assert reason == ""
    assert table.identities.tolist() == [["Ann_B", "Ann_B"], ["Ann_B", "Cy"]]
    assert table.names[1] == (f"{tmp_path}/Ann_B_0001.jpg", f"{tmp_path}/Cy_1.jpg")
    assert table.groups is None


@pytest.mark.slow
def test_rfw_has_pairs_of_every_group_in_every_fold(tmp_path, capsys):
    groups = ("African", "Asian", "Caucasian", "Indian")
    for place, group in enumerate(groups):
        lists = tmp_path / "RFW" / "txts" / group
        os.makedirs(lists)
        lines = [f"m.{i}\t1\t2" if same else f"m.{i}\t1\tn.{i}\t1" for i in range(10) for same in (True, False)]
        (lists / f"{group}_pairs.txt").write_text("\n".join(lines) + "\n")
        (lists / f"{group}_people.txt").write_text("m.0 2\n")
        for i in range(10):
            write_photos(tmp_path / "RFW" / "data" / group / f"n.{i}", f"n.{i}_0001.jpg")
            folder = tmp_path / "RFW" / "data" / group / f"m.{i}"
            write_photos(folder, f"m.{i}_0001.jpg", f"m.{i}_0002.jpg")
            (folder / f"m.{i}_0001.jpg").write_bytes(face(place, i))
    images, same = make_pairs(tmp_path, "rfw", tmp_path / "RFW" / "txts")
    assert same == [True, False] * 40
    assert [images[2 * pair] for pair in range(8)] == [face(place, 0) for place in (0, 0, 1, 1, 2, 2, 3, 3)]
    table, _ = pair_table.find_table(str(tmp_path / "pairs.bin"), same)
    assert table.groups.tolist() == [group for _ in range(10) for group in groups for _ in range(2)]
    assert "folds" not in capsys.readouterr().out
    one, _ = pair_lists.read("rfw", str(tmp_path / "RFW" / "txts" / "Asian" / "Asian_pairs.txt"), None)
    assert {pair.group for pair in one} == {"Asian"} and len(one) == 20
    assert os.path.exists(one[0].one)
    message = error_of(capsys, pairs, "--format", "rfw", "--list", tmp_path, "--output", tmp_path / "x.bin", "--force")
    assert "no face" not in message
    os.makedirs(tmp_path / "empty")
    message = error_of(capsys, pairs, "--format", "rfw", "--list", tmp_path / "empty", "--output", tmp_path / "x.bin")
    assert "empty holds no GROUP_pairs.txt or GROUP/GROUP_pairs.txt" in message


def cells(*values):
    result = np.empty((len(values), 1), object)
    result[:, 0] = values
    return result


def agedb_files(count, split):
    genuine = [(f"{split}_Ann Lee{i}_30_f", f"{split + 50}_Ann Lee{i}_60_f", 1) for i in range(count)]
    return genuine + [(f"{split}_Ann Lee{i}_30_f", f"{split}_Bob{i}_60_m", -1) for i in range(count)]


def forms(rows):
    """The forms that a split may have."""
    ones, others, labels = (list(column) for column in zip(*rows))
    table = np.empty((len(rows), 2), object)
    table[:, 0], table[:, 1] = ones, others
    three = np.empty((len(rows), 3), object)
    three[:, 0], three[:, 1], three[:, 2] = ones, others, labels
    column = np.array(labels, np.int16).reshape(-1, 1)
    return {
        "columns": {"one": cells(*ones), "other": cells(*others), "label": column.astype(float)},
        "table": {"names": table, "label": column},
        "texts": {"one": np.array(ones), "other": np.array(others), "label": column.T},
        "cells": cells(table, column),
        "rows": three,
    }


@pytest.mark.parametrize("form", ["columns", "table", "texts", "cells", "rows"])
@pytest.mark.parametrize("compressed", [False, True])
def test_agedb_splits(tmp_path, form, compressed):
    splits = [agedb_files(3, split) for split in range(10)]
    content = {"splits": cells(*(forms(rows)[form] for rows in splits))}
    savemat(tmp_path / "agedb.mat", content, do_compression=compressed)
    found, skipped = pair_lists.read("agedb", str(tmp_path / "agedb.mat"), str(tmp_path))
    assert skipped == []
    assert [pair.same for pair in found] == [True] * 3 + [False] * 3 + ([True] * 3 + [False] * 3) * 9
    assert (found[10].one, found[10].other) == (f"{tmp_path}/1_Ann Lee1_30_f", f"{tmp_path}/1_Bob1_60_m")
    assert found[10][3:] == ("Ann Lee1", "Bob1", "")


def test_an_agedb_set(tmp_path):
    write_photos(tmp_path, "0_Ann_20_f.jpg", "1_Ann_60_f.jpg", "2_Bob_30_m.png")
    rows = [("0_Ann_20_f.jpg", "1_Ann_60_f", 1), ("0_Ann_20_f", "2_Bob_30_m", -1)]
    savemat(tmp_path / "agedb.mat", {"splits": cells(forms(rows)["columns"])})
    images, same = make_pairs(tmp_path, "agedb", tmp_path / "agedb.mat")
    assert (images, same) == ([face(0), face(1), face(0), face(2)], [True, False])


def test_agedb_in_a_plain_list_has_identities(tmp_path):
    (tmp_path / "list.txt").write_text("0_Ann_20_f.jpg 1_Ann_60_f.jpg 1\n0_Ann_20_f.jpg 2_Bob_30_m.jpg -1\n")
    found, _ = pair_lists.read("plain", str(tmp_path / "list.txt"), None)
    assert [pair[3:5] for pair in found] == [("Ann", "Ann"), ("Ann", "Bob")]


def ten_folds(kind):
    pair = pair_lists.Pair
    if kind == "one kind":
        return [pair("a", "b", i < 10, f"p{i}", f"p{i}" if i < 10 else f"q{i}") for i in range(20)]
    if kind == "shared":
        return [pair("a", "b", i % 2 == 0, "p", "p" if i % 2 == 0 else f"q{i}") for i in range(20)]
    return [pair(f"f{i}/1", f"f{i}/2" if i % 2 == 0 else f"g{i}/1", i % 2 == 0) for i in range(20)]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("one kind", ["folds 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 of 10 hold pairs of one kind only: every fold needs both"]),
        ("shared", ["1 of 11 identities are in several of the 10 folds"]),
        ("good", []),
    ],
)
def test_what_is_wrong_with_folds(kind, expected):
    found = pair_lists.fold_problems(ten_folds(kind))
    assert len(found) == len(expected)
    assert all(problem.startswith(start) for problem, start in zip(found, expected))


def test_the_command_warns_of_folds(tmp_path, capsys):
    write_photos(tmp_path, "a.png", "b.png")
    (tmp_path / "list.txt").write_text("a.png a.png 1\n" * 10 + "a.png b.png 0\n" * 10)
    make_pairs(tmp_path, "plain", tmp_path / "list.txt")
    assert "folds 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 of 10 hold pairs of one kind only" in capsys.readouterr().out


def test_a_list_in_the_place_of_the_table_stays(tmp_path, capsys):
    write_photos(tmp_path, "a.png")
    (tmp_path / "x-pairs.csv").write_text("a.png,a.png,1\n")
    argv = ["--list", tmp_path / "x-pairs.csv", "--output", tmp_path / "x.bin", "--aligned", "--workers", 1]
    assert "x-pairs.csv is there already and is no table of pairs" in error_of(capsys, pairs, *argv)
    assert (tmp_path / "x-pairs.csv").read_text() == "a.png,a.png,1\n"


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ("a/1,a/2,0\nb/1,c/1,0\n", "lists other pairs than the set"),
        ("a/1,a/2,1\n", "lists other pairs than the set"),
        ("1,2,1\n1,3,0\n", "does not name the identities"),
        ("a/1,b/2,1\nb/1,c/1,0\n", "does not name the identities"),
        ("a/1,a/2,1\nb/1,\0,0\n", "cannot be read: "),
        ("x,y,1,p,p\nx,z,0,p,q\n", ""),
        ("a/1,a/2,1\na/1,b/2,0\n", ""),
    ],
)
def test_tables_of_pairs(tmp_path, rows, reason):
    (tmp_path / "s.csv").write_text(rows)
    table, found = pair_table.find_table(str(tmp_path / "s.bin"), [True, False])
    assert reason in found and bool(reason) == bool(found)
    assert (table is not None and table.identities is not None) == (not reason)
