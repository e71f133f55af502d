"""The results of searches: lines for a terminal, .json, a .csv of every probe, and a sheet of the errors."""

from __future__ import annotations

import math
from typing import Iterator, NamedTuple, Sequence

import numpy as np

from insightface_mx.base.errors import UserError
from insightface_mx.eval.bad_cases import draw_cell
from insightface_mx.eval.features.face_features import FaceReader
from insightface_mx.eval.identification import Identification
from insightface_mx.eval.intervals import Interval, rate_intervals
from insightface_mx.eval.search_intervals import search_intervals
from insightface_mx.eval.searches.candidates import Candidates
from insightface_mx.eval.searches.face_sets import Faces
from insightface_mx.photos.lists import Photo

FPIRS = (0.003, 0.01, 0.1)
SHEET_FPIR = 0.01  # whose false alarms are drawn
MOST_CELLS = 200  # of a sheet
_BLANK = 255


class Rate(NamedTuple):
    """A rate of searches; NaN, and no interval, where no search can tell.

    Attributes:
        metric: "rank" or "TPIR at FPIR".
        target: The rank or FPIR.
        value: The fraction of mated searches.
        interval: At 95 %, by drawing identities with replacement.
        threshold: Of the similarity.
        reached: The FPIR that is reached.
    """

    metric: str
    target: float
    value: float
    interval: Interval | None
    threshold: float = math.nan
    reached: float = math.nan


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

    def cells(self, reader: FaceReader) -> tuple[list[np.ndarray], int]:
        """Draw the errors, worst first: probe, the first candidate, and the mate or nothing.

        Returns:
            At most MOST_CELLS cells, and the number of all errors.
        """
        found, threshold = self.found, self.identification().thresholds[FPIRS.index(SHEET_FPIR)]
        missed = np.flatnonzero(found.rank > 1)
        missed = missed[np.argsort(found.mate[missed] - found.similarities[missed, 0], kind="stable")]
        alarms = np.flatnonzero((found.rank == 0) & (found.stranger > threshold))
        alarms = alarms[np.argsort(-found.stranger[alarms], kind="stable")]
        errors = [*missed.tolist(), *alarms.tolist()]
        return [self._cell(reader, index) for index in errors[:MOST_CELLS]], len(errors)

    def _cell(self, reader: FaceReader, index: int) -> np.ndarray:
        faces, place = self._set_of(self.found.places[index, 0])
        images = [_image(reader, photo) for photo in (self.probes.photos[index], faces.photos[place])]
        if self.found.rank[index]:
            images.append(_image(reader, self.gallery.photos[self.found.mate_place[index]]))
            caption = f"rank {self.found.rank[index]}: {self.found.similarities[index, 0]:.3f}"
            caption += f", mate {self.found.mate[index]:.3f}"
        else:
            images.append(np.full_like(images[0], _BLANK))
            caption = f"no mate: {self.found.stranger[index]:.3f}"
        return draw_cell(images, caption)


class MateRanks(NamedTuple):
    """Searches for each mate by itself among distractors.

    Attributes:
        probes: The faces.
        distractors: Those of others.
        pairs: (n, 2) indices of probe and mate.
        rank: (n,) of the mate.
        ranks: The ranks k that were asked for.
    """

    probes: Faces
    distractors: Faces
    pairs: np.ndarray
    rank: np.ndarray
    ranks: Sequence[int]

    def counts(self) -> dict[str, int]:
        """Return how many faces and searches there are."""
        return {
            "probes": len(self.probes.photos),
            "distractors": len(self.distractors.photos),
            "mated": len(self.pairs),
        }

    def rates(self) -> list[Rate]:
        """Return the rank rates."""
        hits = self.rank[:, None] <= np.asarray(self.ranks)
        identities = np.array(self.probes.identities)[self.pairs]
        rows = zip(self.ranks, hits.mean(axis=0).tolist(), rate_intervals(hits, identities))
        return [Rate("rank", *row) for row in rows]

    def rows(self) -> Iterator[Sequence[object]]:
        """Yield the title and a row for every search."""
        yield ("probe", "identity", "rank", "mate")
        for (probe, mate), rank in zip(self.pairs.tolist(), self.rank.tolist()):
            yield (self.probes.names[probe], self.probes.photos[probe].identity, rank, self.probes.names[mate])


def _image(reader: FaceReader, photo: Photo) -> np.ndarray:
    """Return a face, or a blank one where its file has gone meanwhile."""
    try:
        return reader.face(photo)
    except UserError:
        return np.full((*reader.image_size, 3), _BLANK, np.uint8)


def lines(result: GallerySearch | MateRanks) -> Iterator[str]:
    """Yield the lines for a terminal."""
    yield ", ".join(f"{count} {name.replace('_', '-')}" for name, count in result.counts().items())
    rates = result.rates()
    yield "95 % intervals by people: identities are drawn with replacement, 1000 times"
    for rate in rates:
        name = f"{rate.metric} {rate.target:g}"
        if rate.interval is None:
            yield f"{name:<20} no search can tell"
            continue
        mark = "*" if rate.interval.few_errors else ""
        line = f"{name:<20} {rate.value:.4f}  {rate.interval.low:.4f}-{rate.interval.high:.4f}{mark}"
        if not math.isnan(rate.threshold):
            line += f"  threshold {rate.threshold:.4f}, FPIR reached {rate.reached:.4f}"
            line += f", {rate.interval.errors} false alarms"
        yield line
    if any(rate.interval and rate.interval.few_errors for rate in rates):
        yield "*: fewer than 30 errors (missed mates, false alarms) carry the figure: it may be far off"


def json_object(result: GallerySearch | MateRanks) -> dict[str, object]:
    """Return counts and rates as JSON has them; a number that does not exist is null."""
    rates = [
        {
            "metric": rate.metric,
            "target": rate.target,
            "value": _number(rate.value),
            "low": rate.interval.low if rate.interval else None,
            "high": rate.interval.high if rate.interval else None,
            "interval_by": rate.interval.method if rate.interval else None,
            "errors": rate.interval.errors if rate.interval else None,
            "few_errors": rate.interval.few_errors if rate.interval else None,
            "threshold": _number(rate.threshold),
            "fpir_reached": _number(rate.reached),
        }
        for rate in result.rates()
    ]
    return {**result.counts(), "rates": rates}


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
