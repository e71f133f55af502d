"""Packs of other tools and orders: every command finds the same images of the same identities as their labels say."""

import csv
import re
from collections import Counter

import numpy as np
import pytest
from brightness_set import face
from harness import run, status_of

from insightface_mx import triplets
from insightface_mx.base.compat import mx
from insightface_mx.datasets import check, edit, info, unpack
from insightface_mx.formats.training_set import TrainingSet, read_property
from insightface_mx.image_iter import FaceImageIter

SIZES = (1, 2, 3, 4, 5, 6)  # images of each identity


def images_of(labels):
    """Label -> images, for six identities."""
    return {label: [face(place, i) for i in range(size)] for place, (label, size) in enumerate(zip(labels, SIZES))}


def in_order(images):
    return [(label, encoded) for label, some in images.items() for encoded in some]


def shuffled(images):
    """Rows in an order in which an identity's images do not follow one another."""
    rows = in_order(images)
    order = np.random.RandomState(3).permutation(len(rows))
    return [rows[i] for i in order]


def write(folder, records, classes):
    """Write records (id, label or labels, payload) by MXNet, and a property."""
    folder.mkdir()
    file = mx.recordio.MXIndexedRecordIO(str(folder / "train.idx"), str(folder / "train.rec"), "w")
    for record_id, label, payload in records:
        header = mx.recordio.IRHeader(0, label, record_id, 0)
        file.write_idx(record_id, mx.recordio.pack(header, payload))
    file.close()
    (folder / "property").write_text(f"{classes},32,32\n")


def face2rec2(rows, first_payload=b"", identity_payload=b""):
    """Records as the original's face2rec2 writes them: an identity record for each run of equal labels."""
    starts = [i + 1 for i, (label, _) in enumerate(rows) if i == 0 or label != rows[i - 1][0]]
    ends = [*starts[1:], len(rows) + 1]
    end = len(rows) + 1
    yield 0, [end, end + len(starts)], first_payload
    for record_id, (label, encoded) in enumerate(rows, 1):
        yield record_id, [label, 1], encoded
    for record_id, bounds in enumerate(zip(starts, ends), end):
        yield record_id, list(bounds), identity_payload


def plain(rows, first=0, make_label=float):
    """Records of a plain list, as im2rec writes them, with ids from `first` on."""
    return [(record_id, make_label(label), encoded) for record_id, (label, encoded) in enumerate(rows, first)]


USUAL = images_of(range(6))
PACKS = {  # name -> images by label, records, whether check-set finds something to mend
    "a run for each change of label": (USUAL, face2rec2(shuffled(USUAL)), True),
    "a run for each identity, in another order": (USUAL, face2rec2(in_order(USUAL)[::-1]), False),
    "labels from 1": (images_of(range(1, 7)), face2rec2(in_order(images_of(range(1, 7)))), True),
    "labels from 1000": (images_of(range(1000, 1006)), face2rec2(in_order(images_of(range(1000, 1006)))), True),
    "labels with gaps": (images_of((0, 2, 3, 5, 11, 12)), face2rec2(shuffled(images_of((0, 2, 3, 5, 11, 12)))), True),
    "no table": (USUAL, plain(shuffled(USUAL)), False),
    "label arrays of one": (USUAL, plain(shuffled(USUAL), make_label=lambda label: [label]), False),
    "label arrays of two": (USUAL, plain(shuffled(USUAL), make_label=lambda label: [label, 0]), False),
    "label arrays of two, aligned": (USUAL, plain(shuffled(USUAL), make_label=lambda label: [label, 1]), False),
    "label arrays of six": (USUAL, plain(shuffled(USUAL), make_label=lambda label: [label, 3, 9, 1, 5, 7]), False),
    "ids from 1": (USUAL, plain(shuffled(USUAL), first=1), False),
    "ids from 1, label arrays": (USUAL, plain(in_order(USUAL), first=1, make_label=lambda label: [label, 1]), False),
    "ids in any order": (USUAL, plain(shuffled(USUAL))[::-1], False),
    "ids with gaps": (USUAL, [(7 * i + 3, *rest) for i, *rest in plain(shuffled(USUAL))], False),
    "record 0 with a payload": (USUAL, face2rec2(in_order(USUAL), first_payload=b"x" * 9), False),
    "record 0 with an image": (USUAL, face2rec2(in_order(USUAL), first_payload=face(3)), False),
    "identity records with a payload": (USUAL, face2rec2(in_order(USUAL), identity_payload=b"x" * 9), False),
    "a table that is lost": (USUAL, list(face2rec2(in_order(USUAL)))[1:], True),
}


@pytest.fixture(params=PACKS)
def pack(request, tmp_path):
    """The folder of a pack, its images by label, and whether there is something to mend."""
    images, records, to_mend = PACKS[request.param]
    PACKS[request.param] = images, list(records), to_mend
    write(tmp_path / "data", PACKS[request.param][1], max(images) + 1)
    return tmp_path / "data", images, to_mend


def found_in(data):
    """The images of a TrainingSet by label, in any order."""
    return {
        label: Counter(data.image(record_id) for record_id in record_ids.tolist())
        for label, record_ids in zip(data.labels.tolist(), data.identities)
    }


def counted(images):
    return {label: Counter(some) for label, some in images.items()}


def numbered_again(images):
    return dict(enumerate(counted(images).values()))


def test_training_and_triplets(pack, capsys):
    folder, images, _ = pack
    data = FaceImageIter(3, (3, 32, 32), str(folder / "train.rec"), num_classes=max(images) + 1, on_bad_record="stop")
    assert len(data.images) == 21
    seen = [
        (int(label), record_id) for batch in data for label, record_id in zip(batch.label[0].asnumpy(), batch.index)
    ]
    found = {label: Counter() for label in images}
    for label, record_id in seen:
        found[label][data.records.read(int(record_id))[1]] += 1
    assert found == counted(images)
    labels = [*images]
    for least in (0, 3):
        groups = triplets.identities(data.records, least)
        read = [Counter(data.records.read(record_id)[1] for record_id in group.tolist()) for group in groups]
        assert read == [*counted(images).values()][max(least - 1, 0) :]
        filtered = data.records.image_ids(least)
        assert len(filtered) == (21 if least == 0 else 3 + 4 + 5 + 6)
        assert {int(data.records.read(i)[0][0]) for i in filtered.tolist()} == set(labels[max(least - 1, 0) :])


def test_info(pack, capsys):
    folder, images, _ = pack
    run(info, folder)
    out = capsys.readouterr().out
    assert f"6 identities, 21 images; property: {max(images) + 1},32,32" in out
    assert "images of an identity: 1 to 6, mean 3.5" in out


def test_unpack(pack):
    folder, images, _ = pack
    run(unpack, folder, "--output", folder / "photos")
    folders = [path for path in (folder / "photos").iterdir() if path.is_dir()]
    found = {int(path.name): Counter(file.read_bytes() for file in path.iterdir()) for path in folders}
    assert found == counted(images)


@pytest.mark.slow
def test_merge_and_filter(pack):
    folder, images, _ = pack
    run(edit, "merge", folder, folder, "--output", folder / "twice")
    assert found_in(TrainingSet(str(folder / "twice"))) == dict(enumerate([*counted(images).values()] * 2))
    run(edit, "filter", folder, "--min-images", 4, "--max-images", 5, "--output", folder / "large")
    found = found_in(TrainingSet(str(folder / "large")))
    assert [sum(counts.values()) for counts in found.values()] == [4, 5, 5]
    assert all(not found[i] - whole for i, whole in enumerate([*counted(images).values()][3:]))
    with open(folder / "large" / "dropped.csv", newline="") as file:
        rows = [*csv.reader(file)][1:]
    assert rows[:3] == [
        [f"identity {label}", f"{size} images, --min-images is 4"] for label, size in zip(images, SIZES[:3])
    ]


def test_check_names_no_good_image_and_repair_keeps_all(pack, capsys):
    folder, images, to_mend = pack
    if to_mend:
        assert status_of(check, folder, "--repair", folder / "good") == 1
    else:
        run(check, folder, "--repair", folder / "good")
    out = capsys.readouterr().out
    assert re.search(
        r"\d+ records, 21 images, [12] problems" if to_mend else r"\d+ records, 21 images, 0 problems", out
    )
    run(check, folder / "good")
    assert found_in(TrainingSet(str(folder / "good"))) == numbered_again(images)
    assert read_property(str(folder / "good")) == (6, 32, 32)


@pytest.mark.parametrize("name", ["a run for each change of label", "labels with gaps"])
def test_a_table_that_disagrees_is_reported_once(tmp_path, name, caplog):
    images, records, _ = PACKS[name]
    records = list(records) if not isinstance(records, list) else records
    PACKS[name] = images, records, True
    write(tmp_path / "data", records, max(images) + 1)
    data = FaceImageIter(3, (3, 32, 32), str(tmp_path / "data" / "train.rec"), images_filter=2)
    triplets.identities(data.records, 2)
    triplets.identities(data.records, 0)
    runs = len(records) - 22
    assert runs > 10
    (message,) = (text for text in caplog.messages if "labels" in text)
    assert f"{runs} ranges of images, their labels make 6 identities" in message
    assert "insightface-check-set FOLDER --repair NEW" in message
