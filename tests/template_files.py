"""Files as IJB publishes them, with synthetic faces, and what follows from them by loops."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

SIZE = 140  # pixels of a crop's sides
REFERENCE = np.array(
    [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)]
)


class Image(NamedTuple):
    """An image of a template; points: (5, 2) landmarks."""

    name: str
    template: int
    medium: int
    subject: int
    points: np.ndarray
    score: float


def make_images(subjects: int = 8, seed: int = 0) -> list[Image]:
    """Four templates for each subject of one to four images in one or two media; media repeat between templates."""
    random = np.random.RandomState(seed)
    images = []
    for subject in range(subjects):
        for place in range(4):
            for _number in range(1 + random.randint(4)):
                shift = random.uniform(-4, 4, (1, 2)) + 14
                points = np.round(REFERENCE * random.uniform(0.95, 1.05) + shift, 2)
                medium = int(random.randint(2)) + subject
                template = 10 * subject + place + 1
                score = round(random.uniform(0.5, 1), 3)
                images.append(Image(f"{len(images) + 1}.png", template, medium, subject, points, score))
    return images


def pixels(image: Image) -> np.ndarray:
    """Draw the crop of an image, BGR: colours of the subject, changed a little."""
    own = np.random.RandomState(image.subject).randint(60, 196, (4, 4, 3))
    change = np.random.RandomState(1000 + int(image.name.split(".")[0])).randint(-50, 50, (4, 4, 3))
    return cv2.resize((own + change).astype(np.uint8), (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)


def write_folder(folder: Path, images: list[Image], name: str = "ijbc") -> Path:
    """Write meta/ and loose_crop/; pairs: every template with every later one. Gallery G1 holds the first templates of
    the even subjects, G2 those of the odd ones; subject 7 is in none, and the probes are all other templates."""
    meta, crops = folder / "meta", folder / "loose_crop"
    meta.mkdir(parents=True)
    crops.mkdir()
    for image in images:
        cv2.imwrite(str(crops / image.name), pixels(image))
    write = lambda file, lines: (meta / f"{name}_{file}").write_text("".join(f"{line}\n" for line in lines))  # noqa: E731
    write("face_tid_mid.txt", [f"{image.name} {image.template} {image.medium}" for image in images])
    write(
        "name_5pts_score.txt",
        [
            " ".join([image.name, *(f"{value:.2f}" for value in image.points.ravel()), str(image.score)])
            for image in images
        ],
    )
    subject = subjects_of(images)
    templates = sorted(subject)
    pairs = [(one, other) for i, one in enumerate(templates) for other in templates[i + 1 :]]
    write("template_pair_label.txt", [f"{one} {other} {int(subject[one] == subject[other])}" for one, other in pairs])
    for gallery, rest in (("G1", 0), ("G2", 1)):
        rows = [
            image for image in images if image.subject % 2 == rest and image.template % 10 == 1 and image.subject < 7
        ]
        write(f"1N_gallery_{gallery}.csv", ["TEMPLATE_ID,SUBJECT_ID", *(f"{r.template},{r.subject}" for r in rows)])
    probes = [image for image in images if image.template % 10 != 1 or image.subject == 7]
    write("1N_probe_mixed.csv", ["TEMPLATE_ID,SUBJECT_ID,FILE", *(f"{r.template},{r.subject},x" for r in probes)])
    return folder


def subjects_of(images: list[Image]) -> dict[int, int]:
    """Return the subject of each template."""
    return {image.template: image.subject for image in images}


def aligned(image: Image) -> np.ndarray:
    """Return the aligned face, (3, 112, 112) RGB, by a least-squares similarity that is solved as linear equations."""
    rows, values = [], []
    for (x, y), (u, v) in zip(image.points, REFERENCE):
        rows += [[x, -y, 1, 0], [y, x, 0, 1]]
        values += [u, v]
    a, b, tx, ty = np.linalg.lstsq(np.array(rows), np.array(values), rcond=None)[0]
    face = cv2.warpAffine(pixels(image), np.array([[a, -b, tx], [b, a, ty]]), (112, 112), borderValue=0.0)
    return face[:, :, ::-1].transpose(2, 0, 1)


def template_rows(
    images: list[Image], plain: np.ndarray, mirrored: np.ndarray, norm: bool, score: bool, flip: bool
) -> tuple[list[int], np.ndarray]:
    """Return the templates, rising, and their unit vectors, by the definition."""
    templates, rows = sorted(subjects_of(images)), []
    for template in templates:
        media: dict[int, list[np.ndarray]] = {}
        for image, f, g in zip(images, plain.astype(float), mirrored.astype(float)):
            if image.template == template:
                v = f + g if flip else f
                v = v if norm else v / np.linalg.norm(v)
                media.setdefault(image.medium, []).append(v * image.score if score else v)
        total = sum(np.mean(rows, axis=0) for rows in media.values())
        rows.append(total / np.linalg.norm(total))
    return templates, np.array(rows)
