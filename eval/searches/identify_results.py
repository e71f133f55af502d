"""The results of searches in a gallery: their rates, a .csv of every probe, and pictures of the errors."""

from __future__ import annotations

from typing import Iterator, NamedTuple, Sequence

import numpy as np

from insightface_mx.eval.bad_cases import draw_cell
from insightface_mx.eval.features.face_features import BLANK, FaceReader
from insightface_mx.eval.identification import Identification
from insightface_mx.eval.page_parts import Face, FaceFigure, png_of
from insightface_mx.eval.search_intervals import search_intervals
from insightface_mx.eval.searches.candidates import Candidates
from insightface_mx.eval.searches.face_sets import Faces
from insightface_mx.eval.searches.rates import Rate
from insightface_mx.photos.lists import Photo

FPIRS = (0.003, 0.01, 0.1)
SHEET_FPIR = 0.01  # whose false alarms are drawn
MOST_CELLS = 200  # of a sheet


class GallerySearch(NamedTuple):
    """Searches in a gallery.

    Attributes:
        probes: The faces that were looked for.
        gallery: The faces of known identities.
        distractors: Those of others, behind the gallery's in the candidates' numbering.
        found: What was found.
        ranks: The ranks k that were asked for.
    """

    probes: Faces
    gallery: Faces
    distractors: Faces | None
    found: Candidates
    ranks: Sequence[int]

    def counts(self) -> dict[str, int]:
        """Return how many faces and searches there are."""
        return {
            "gallery": len(self.gallery.photos),
            "identities": len(set(self.gallery.identities)),
            "distractors": len(self.distractors.photos) if self.distractors else 0,
            "mated": int((self.found.rank > 0).sum()),
            "non_mated": int((self.found.rank == 0).sum()),
        }

    def identification(self) -> Identification:
        """Return the rates as arrays."""
        return self.found.rates(FPIRS, self.ranks)

    def rates(self) -> list[Rate]:
        """Return rank rates, then TPIR at each FPIR."""
        rates = self.identification()
        intervals = search_intervals([self.found.searches], self.probes.identities, FPIRS, self.ranks)
        of_ranks = zip(self.ranks, rates.rank_rates.tolist(), intervals.ranks)
        of_tpir = zip(
            FPIRS, rates.tpir.tolist(), intervals.tpir, rates.thresholds.tolist(), rates.fpir_reached.tolist()
        )
        return [*(Rate("rank", *row) for row in of_ranks), *(Rate("TPIR at FPIR", *row) for row in of_tpir)]

    def rows(self) -> Iterator[Sequence[object]]:
        """Yield the title and a row for every probe, with its best three candidates."""
        candidates = [f"{what}{place}" for place in (1, 2, 3) for what in ("candidate", "identity", "similarity")]
        yield ("probe", "identity", "rank", "mate", "mate_similarity", *candidates)
        for index, photo in enumerate(self.probes.photos):
            row: list[object] = [self.probes.names[index], photo.identity, "", "", ""]
            if self.found.rank[index]:
                mate = self.gallery.names[self.found.mate_place[index]]
                row[2:] = [self.found.rank[index], mate, f"{self.found.mate[index]:.6f}"]
            for place, similarity in zip(self.found.places[index], self.found.similarities[index]):
                row += [*self._face(place), f"{similarity:.6f}"] if place >= 0 else ["", "", ""]
            yield row

    def _face(self, place: int) -> tuple[str, str]:
        """Return name and identity of a candidate."""
        faces, index = self._set_of(place)
        return faces.names[index], faces.photos[index].identity

    def _set_of(self, place: int) -> tuple[Faces, int]:
        known = len(self.gallery.photos)
        if place < known or self.distractors is None:
            return self.gallery, place
        return self.distractors, place - known

    @property
    def threshold(self) -> float:
        """The threshold whose false alarms are drawn; NaN where all searches have a mate."""
        return float(self.found.rates((SHEET_FPIR,), self.ranks).thresholds[0])

    def errors(self) -> tuple[list[int], list[int]]:
        """Return the searches whose mate does not come first, and the false alarms, worst first."""
        found = self.found
        missed = np.flatnonzero(found.rank > 1)
        missed = missed[np.argsort(found.mate[missed] - found.similarities[missed, 0], kind="stable")]
        alarms = np.flatnonzero((found.rank == 0) & (found.stranger > self.threshold))
        return missed.tolist(), alarms[np.argsort(-found.stranger[alarms], kind="stable")].tolist()

    def cells(self, reader: FaceReader) -> tuple[list[np.ndarray], int]:
        """Draw the errors, worst first: probe, the first candidate, and the mate or nothing.

        Returns:
            At most MOST_CELLS cells, and the number of all errors.
        """
        missed, alarms = self.errors()
        errors = [*missed, *alarms]
        cells = []
        for index in errors[:MOST_CELLS]:
            images = [reader.face_or_blank(photo) for _, _, photo in self._shown(index)]
            blank = [np.full_like(images[0], BLANK)] * (3 - len(images))
            cells.append(draw_cell([*images, *blank], self._caption(index)))
        return cells, len(errors)

    def face_figures(self, reader: FaceReader, most: int) -> tuple[list[FaceFigure], list[FaceFigure]]:
        """Return the worst missed mates and false alarms, at most so many of each, as a page shows them."""
        missed, alarms = ([self._figure(reader, index) for index in kind[:most]] for kind in self.errors())
        return missed, alarms

    def _figure(self, reader: FaceReader, index: int) -> FaceFigure:
        shown = self._shown(index)
        faces = [Face(png_of(reader.face_or_blank(photo)), f"{role}: {name}") for role, name, photo in shown]
        return FaceFigure(faces, [self._caption(index), *(f"{role}: {name}" for role, name, _ in shown)])

    def _shown(self, index: int) -> list[tuple[str, str, Photo]]:
        """Return what is shown of a search: probe, first candidate and mate, each with its name and photo."""
        faces, place = self._set_of(self.found.places[index, 0])
        shown = [("probe", self.probes, index), ("first candidate", faces, place)]
        if self.found.rank[index]:
            shown.append(("mate", self.gallery, self.found.mate_place[index]))
        return [(role, faces.names[place], faces.photos[place]) for role, faces, place in shown]

    def _caption(self, index: int) -> str:
        found = self.found
        if not found.rank[index]:
            return f"no mate: {found.stranger[index]:.3f}"
        return f"rank {found.rank[index]}: {found.similarities[index, 0]:.3f}, mate {found.mate[index]:.3f}"
