"""Templates of IJB-C's size and a million distractors, against the bare products of matrices that they need.

python benchmarks/evaluation.py --scale 0.1
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time

import numpy as np
from interleaved import HEADINGS, Subjects, measure, print_headings, print_machine, print_rows

from insightface_mx.base.machine import peak_bytes
from insightface_mx.embedding.vectors import normalize
from insightface_mx.eval.curves import tar_at_far
from insightface_mx.eval.identification import distractor_ranks
from insightface_mx.eval.template_sets.ijb_files import read_pairs
from insightface_mx.eval.template_sets.pair_scores import FARS
from insightface_mx.eval.templates import aggregate, image_features, pair_scores
from insightface_mx.photos.workers import apart

LENGTH = 512
IMAGES, TEMPLATES, PAIRS = 469_375, 23_124, 15_700_000  # of IJB-C
PROBES, IDENTITIES, DISTRACTORS = 3_530, 80, 1_000_000  # of MegaFace
PUBLIC_BATCH = 100_000  # pairs that the public scripts multiply at once
GEMM_BLOCKS = (1 << 10, 1 << 12, 1 << 14)  # distractors in one product of matrices


def random_rows(count: int, seed: int) -> np.ndarray:
    """Return (count, LENGTH) float32 random numbers."""
    return np.random.default_rng(seed).standard_normal((count, LENGTH), np.float32)


def templates(scale: float, repeats: int) -> None:
    """Aggregate images, score pairs of templates and read six FARs; against gathering and multiplying the rows."""
    draw = np.random.default_rng(0)
    images, count, pairs = (max(1, int(number * scale)) for number in (IMAGES, TEMPLATES, PAIRS))
    ids = np.sort(np.concatenate((np.arange(count), draw.integers(0, count, images - count))))
    media = draw.integers(0, 5, images)
    scores = draw.uniform(0.5, 1, images).astype(np.float32)
    features = random_rows(images, 1)
    first, second = draw.integers(0, count, (2, pairs), np.int32)
    genuine = np.arange(pairs) % 800 == 0
    _, rows = aggregate(features, ids, media)

    def library() -> object:
        names, vectors = aggregate(image_features(features, scores=scores), ids, media)
        found = pair_scores(names, vectors, first, second)
        return tar_at_far(found[genuine], found[~genuine], FARS)

    def gather_and_multiply() -> np.ndarray:
        found = np.empty(pairs)
        for start in range(0, pairs, PUBLIC_BATCH):
            part = slice(start, start + PUBLIC_BATCH)
            found[part] = np.sum(rows[first[part]] * rows[second[part]], axis=1)
        return found

    def in_cache() -> np.ndarray:
        return pair_scores(np.arange(count), rows, first, second)

    np.testing.assert_allclose(in_cache(), gather_and_multiply(), atol=1e-12)
    subjects: Subjects = {
        f"gather and multiply, {PUBLIC_BATCH} pairs at once": gather_and_multiply,
        "pair_scores": in_cache,
        "aggregate, score and read": library,
    }
    print_rows((f"{images} images, {count} templates, {pairs} pairs",), measure(subjects, repeats))
    print_peak()


def pair_list(scale: float, repeats: int) -> None:
    """Read a list of pairs."""
    draw = np.random.default_rng(0)
    pairs = int(PAIRS * scale)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "pairs.txt")
        with open(path, "w") as file:
            for start in range(0, pairs, PUBLIC_BATCH):
                rows = draw.integers(1, 30_000, (min(PUBLIC_BATCH, pairs - start), 3))
                rows[:, 2] = np.arange(len(rows)) % 800 == 0
                file.write("\n".join(f"{a} {b} {label}" for a, b, label in rows.tolist()) + "\n")
        times = []
        for _ in range(repeats):
            start_time = time.perf_counter()
            assert len(read_pairs(path)[0]) == pairs
            times.append(time.perf_counter() - start_time)
    print(f"\nA list of {pairs} pairs: {pairs / min(times) / 1e6:.2f} million lines a second (best of {repeats})")
    print_peak()


def distractors(scale: float, repeats: int) -> None:
    """Rank the mates of probes among distractors; against the product of the matrices alone."""
    subjects = np.arange(PROBES) % IDENTITIES
    centres = random_rows(IDENTITIES, 2)
    probes = normalize(centres[subjects] + random_rows(PROBES, 3))
    others = random_rows(int(DISTRACTORS * scale), 4)
    for start in range(0, len(others), 1 << 14):
        others[start : start + (1 << 14)] = normalize(others[start : start + (1 << 14)])

    def product(block: int) -> None:
        for start in range(0, len(others), block):
            probes @ others[start : start + block].T

    runs: Subjects = {f"product, {block} at once": lambda block=block: product(block) for block in GEMM_BLOCKS}
    runs["distractor_ranks"] = lambda: distractor_ranks(probes, subjects, others)
    print_rows((f"{PROBES} probes, {len(others)} distractors",), measure(runs, repeats))
    print_peak()


def print_peak() -> None:
    """Print the largest memory of this process so far."""
    print(f"\nPeak memory {peak_bytes() / 1e9:.2f} GB", flush=True)


PARTS = {"templates": templates, "pair_list": pair_list, "distractors": distractors}


def main() -> None:
    """Run the benchmark; each part in a process of its own, whose memory is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="fraction of the full sizes (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="rounds, after two to warm up (default: %(default)s)")
    parser.add_argument("--parts", default=",".join(PARTS), help="what to measure (default: %(default)s)")
    args = parser.parse_args()
    for part in args.parts.split(","):
        if part != "pair_list":
            print_headings(part, "by", headings=(HEADINGS[0], HEADINGS[2]))
        apart(PARTS[part], args.scale, args.repeats)
        print()
    print_machine()


if __name__ == "__main__":
    main()
