"""Compare the images a second of FaceImageIter, bare JPEG decoding, MXNet's iterator and the original's operations.

    python benchmarks/loading.py

All take turns in several rounds, on 112x112 JPEGs of quality 95; the median of the rounds counts. A core's second is a
second of CPU time of all threads together, which other programs on the machine disturb little.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Callable

import cv2
import numpy as np
import simplejpeg

from insightface_mx.base.compat import mx
from insightface_mx.base.machine import cpu_count
from insightface_mx.formats.recordio import RecordFile
from insightface_mx.formats.training_set import write_training_set
from insightface_mx.image_iter import FaceImageIter

SIZE, BATCH = 112, 128
BARE = ("bare decoding, OpenCV", "bare decoding, simplejpeg")
ORIGINAL = "the original's NDArrays"


def random_jpegs(count: int) -> list[bytes]:
    """Return JPEGs of smooth noise, about as large as those of faces (4 to 5 kB)."""
    draw = np.random.RandomState(0)
    encoded = []
    for _ in range(count):
        image = cv2.GaussianBlur(draw.randint(0, 256, (SIZE, SIZE, 3)).astype(np.uint8), (0, 0), 2.5)
        image = cv2.normalize(image, None, 0, 255, cv2.NORM_MINMAX)
        encoded.append(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes())
    return encoded


def write_plain_list(folder: str, encoded: list[bytes]) -> str:
    """Write a .rec file as im2rec does, the only kind that ImageRecordIter can read; return its path."""
    path = os.path.join(folder, "plain.rec")
    records = mx.recordio.MXIndexedRecordIO(os.path.join(folder, "plain.idx"), path, "w")
    for number, image in enumerate(encoded):
        records.write_idx(number, mx.recordio.pack(mx.recordio.IRHeader(0, 0.0, number, 0), image))
    records.close()
    return path


def decode_with_opencv(encoded: list[bytes]) -> None:
    """Decode images to BGR."""
    for image in encoded:
        cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)


def decode_with_simplejpeg(encoded: list[bytes]) -> None:
    """Decode JPEGs to RGB."""
    for image in encoded:
        simplejpeg.decode_jpeg(image)


def decode_in_threads(encoded: list[bytes]) -> None:
    """Decode images to BGR in two threads."""
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(decode_with_opencv, (encoded[::2], encoded[1::2])))


def per_sample_arrays(path: str, count: int) -> None:
    """Decode, flip, cast, transpose and copy every image by NDArray operations, as the original does."""
    records, draw = RecordFile(path), np.random.RandomState(0)
    for start in range(0, count - BATCH + 1, BATCH):
        batch = mx.nd.empty((BATCH, 3, SIZE, SIZE))
        for i in range(BATCH):
            image = mx.image.imdecode(records.read(1 + start + i)[1])
            if draw.rand() < 0.5:
                image = mx.nd.flip(image, axis=1)
            batch[i][:] = mx.nd.transpose(image.astype("float32"), axes=(2, 0, 1))
        batch.wait_to_read()


def consume(data: mx.io.DataIter) -> None:
    """Go through one epoch of a DataIter."""
    data.reset()
    for batch in data:
        batch.data[0].wait_to_read()


def subjects(folder: str, count: int, threads: list[int]) -> dict[str, Callable[[], None]]:
    """Return functions that go through `count` images, without the last partial batch."""
    encoded = random_jpegs(count)
    write_training_set(folder, [encoded[i::100] for i in range(100)], (SIZE, SIZE))
    path, plain = os.path.join(folder, "train.rec"), write_plain_list(folder, encoded)
    found: dict[str, Callable[[], None]] = {
        BARE[0]: lambda: decode_with_opencv(encoded),
        BARE[1]: lambda: decode_with_simplejpeg(encoded),
        "bare decoding, OpenCV, 2 threads": lambda: decode_in_threads(encoded),
        ORIGINAL: lambda: per_sample_arrays(path, count),
    }
    for workers in threads:
        common = {"batch_size": BATCH, "data_shape": (3, SIZE, SIZE), "path_imgrec": path, "workers": workers}
        plainly = FaceImageIter(shuffle=True, rand_mirror=True, **common)
        all_on = FaceImageIter(shuffle=True, rand_mirror=True, color_jittering=1, cutoff=20, **common)
        artefacts = FaceImageIter(shuffle=True, rand_mirror=True, color_jittering=2, cutoff=20, **common)
        records = mx.io.ImageRecordIter(
            path_imgrec=plain, data_shape=(3, SIZE, SIZE), batch_size=BATCH, preprocess_threads=workers,
            shuffle=True, rand_mirror=True, verbose=False,
        )  # fmt: skip
        found[f"FaceImageIter, mirror, {workers}"] = partial(consume, plainly)
        found[f"FaceImageIter, mirror, color 1, cutoff, {workers}"] = partial(consume, all_on)
        found[f"FaceImageIter, mirror, color 2, cutoff, {workers}"] = partial(consume, artefacts)
        found[f"ImageRecordIter, mirror, {workers}"] = partial(consume, records)
    return found


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2560, help="images a round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds (default: %(default)s)")
    threads = sorted({1, 2, cpu_count()})
    parser.add_argument(
        "--threads", type=int, nargs="+", default=threads, help="decoding threads (default: %(default)s)"
    )
    args = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        found = subjects(folder, args.images, args.threads)
        seconds: dict[str, list[np.ndarray]] = {name: [] for name in found}
        for _ in range(args.rounds):
            for name, run in found.items():
                start = np.array([time.perf_counter(), time.process_time()])
                run()
                seconds[name].append(np.array([time.perf_counter(), time.process_time()]) - start)
    rates = {name: args.images / np.median(times, axis=0) for name, times in seconds.items()}
    bare = max(rates[name][1] for name in BARE)
    print(
        "| last: threads | images a second | a core's second | of bare decoding, a core | of the original's, a core |"
    )
    print("|---|--:|--:|--:|--:|")
    for name, (wall, core) in rates.items():
        print(f"| {name} | {wall:,.0f} | {core:,.0f} | {core / bare:.2f} | {core / rates[ORIGINAL][1]:.1f} |")


if __name__ == "__main__":
    main()
