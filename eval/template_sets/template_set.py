"""A set of templates: images, pairs, galleries and probes, from the files of IJB or a list of one's own."""

from __future__ import annotations

import logging
import os
from collections import Counter
from typing import NamedTuple

import numpy as np

from insightface_mx.base.errors import UserError, shorten
from insightface_mx.eval.template_sets.ijb_files import (
    Images,
    MetaFolder,
    Subjects,
    read_own,
    read_pairs,
    read_subjects,
)


class Pairs(NamedTuple):
    """Pairs of templates: (n,) the first ones, (n,) the second ones, (n,) whether they are of one identity."""

    first: np.ndarray
    second: np.ndarray
    genuine: np.ndarray
    path: str


class GalleryList(NamedTuple):
    """The templates of a gallery, with their subjects."""

    name: str
    subjects: Subjects


class TemplateSet(NamedTuple):
    """What is tested.

    Attributes:
        images: The images of all templates.
        pairs: The pairs to compare; None: none where there is a gallery of IJB, all of one's own list.
        galleries: To search in; may be empty.
        probes: The templates to search for.
        people: The subjects of all templates that are compared 1:1, by which intervals are computed; None: not known.
        reason: Why they are not known; ''.
    """

    images: Images
    pairs: Pairs | None
    galleries: list[GalleryList]
    probes: Subjects
    people: Subjects | None
    reason: str = ""


def read_set(path: str, images: str | None = None, landmarks: str | None = None) -> TemplateSet:
    """Read the lists of an IJB folder, or a .csv of one's own.

    In one's own list every pair of templates is compared. The gallery for 1:N holds the first template of each subject
    with several templates, the probes are all others.

    Args:
        path: The folder or .csv.
        images: Folder of the images; None: loose_crop in the folder, or the list's own folder.
        landmarks: Another file of landmarks, for a folder.

    Raises:
        UserError: A list is missing, wrong, or contradicts another.
    """
    return _own_set(path, images) if path.lower().endswith(".csv") else _meta_set(path, images, landmarks)


def _own_set(path: str, images: str | None) -> TemplateSet:
    found, subjects = read_own(path, images)
    counts = Counter(subjects.values())
    if len(counts) == 1:
        raise UserError(f"{path} holds the subject {shorten(next(iter(counts)))} alone: there is nobody to tell apart")
    firsts: dict[str, int] = {}
    for template, subject in subjects.items():
        firsts.setdefault(subject, template)
    gallery = {template: subject for subject, template in firsts.items() if counts[subject] > 1}
    if not gallery:
        raise UserError(f"{path} holds no subject with two templates: there is no pair of one subject")
    probes = {template: subject for template, subject in subjects.items() if template not in gallery}
    return TemplateSet(found, None, [GalleryList("first templates", gallery)], probes, subjects)


def _meta_set(path: str, images: str | None, landmarks: str | None) -> TemplateSet:
    folder = MetaFolder(path, images, landmarks)
    found = folder.images()
    known = set(found.templates.tolist())
    pairs = Pairs(*read_pairs(folder.pairs), folder.pairs) if os.path.lexists(folder.pairs) else None
    galleries: list[GalleryList] = []
    probes: Subjects = {}
    owners: dict[str, str] = {}  # subject -> gallery
    if folder.galleries:
        probes = _of_images(folder.probes, known)
    for file in folder.galleries:
        subjects = _of_images(file, known)
        for template, subject in subjects.items():
            if owners.setdefault(subject, file) != file:
                raise UserError(
                    f"{file}: subject {shorten(subject)} of template {template} is also in {owners[subject]}: a "
                    "subject is in one gallery, and a non-mate in the other"
                )
        name = os.path.splitext(os.path.basename(file))[0].rpartition("_")[2]
        galleries.append(GalleryList(name, subjects))
        if not set(probes.values()) & set(subjects.values()):
            logging.warning("%s: no template of it has a subject of %s: there is no rate", folder.probes, file)
    if pairs is None and not galleries:
        raise UserError(f"there is no {folder.pairs} and no gallery next to it: nothing can be tested")
    people, reason = _people(pairs, galleries, probes, folder.probes) if pairs else (None, "")
    return TemplateSet(found, pairs, galleries, probes, people, reason)


def _people(
    pairs: Pairs, galleries: list[GalleryList], probes: Subjects, probes_path: str
) -> tuple[Subjects | None, str]:
    """Return the subjects of all templates in pairs, as galleries and probes have them; or None, and why.

    Raises:
        UserError: A template is of two subjects.
    """
    people = dict(probes)
    for gallery in galleries:
        for template, subject in gallery.subjects.items():
            if people.setdefault(template, subject) != subject:
                raise UserError(
                    f"{probes_path}: template {template} is of subject {shorten(people[template])}, in gallery "
                    f"{gallery.name} of {shorten(subject)}"
                )
    if not people:
        return None, "there are no galleries and probes"
    used = np.unique(np.concatenate((pairs.first, pairs.second)))
    unknown = [template for template in used.tolist() if template not in people]
    if unknown:
        return None, f"no gallery or list of probes has template {unknown[0]}"
    numbers = np.unique([people[template] for template in used.tolist()], return_inverse=True)[1].reshape(-1)
    one, other = (numbers[np.searchsorted(used, side)] for side in (pairs.first, pairs.second))
    wrong = np.flatnonzero((one == other) != pairs.genuine)
    if wrong.size:
        place, label = f"{pairs.path}:{wrong[0] + 1}", int(pairs.genuine[wrong[0]])
        reason = f"{place} has the label {label}, but galleries and probes say otherwise"
        logging.warning("%s (%d such lines): labels are taken, intervals are by pairs", reason, wrong.size)
        return None, reason
    return people, ""


def _of_images(path: str, known: set[int]) -> Subjects:
    """Read the templates of a gallery or of probes. UserError: one has no image."""
    subjects = read_subjects(path)
    for template in subjects:
        if template not in known:
            raise UserError(f"{path} names template {template}, which has no image")
    return subjects
