"""Compute what a network says of photos once, and store it for the next call.

The outputs are stored as they are, not scaled to unit length, for the photos and for their mirror images: all ways of
comparing faces follow from these.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Callable, Iterable, Iterator, NamedTuple, Sequence

import numpy as np
from tqdm import tqdm

from insightface_mx.base.compat import mxnet_lock
from insightface_mx.base.errors import UserError
from insightface_mx.base.machine import cpu_count
from insightface_mx.cli.types import Size
from insightface_mx.embedding import backends
from insightface_mx.embedding.options import NetworkOptions
from insightface_mx.embedding.vectors import mirror
from insightface_mx.engine.network_input import NetworkInput
from insightface_mx.eval.features.feature_options import FeatureOptions
from insightface_mx.files.atomic import report_write_errors
from insightface_mx.files.chunks import ChunkStore
from insightface_mx.photos.alignment import align
from insightface_mx.photos.decode import decode_photo, fit, network_input
from insightface_mx.photos.lists import Photo
from insightface_mx.photos.sources import PhotoReader, photos_stamp

if TYPE_CHECKING:
    from insightface_mx.detection.detector import MtcnnDetector

BLANK = 255  # value of the pixels of a face that is not there
CHUNK = 512  # photos whose outputs are stored together; an interruption loses less than this


class Part(NamedTuple):
    """The outputs for some photos that follow each other.

    Attributes:
        start: Index of the first photo.
        plain: (n, d) float32; a row of zeros for a photo that cannot be used.
        mirrored: (n, d) float32, of the mirror images; None where they were not asked for.
        problems: n texts: why a photo cannot be used, or ''.
    """

    start: int
    plain: np.ndarray
    mirrored: np.ndarray | None
    problems: list[str]


class FaceReader:
    """Reads photos as a network takes them; several threads may use one object."""

    def __init__(self, image_size: Size, load_detector: Callable[[], MtcnnDetector] | None = None) -> None:
        """Say how faces are found in photos that have no landmarks.

        Args:
            image_size: Height and width of the network's input.
            load_detector: Loads the detector, which looks for the most probable face; called once, where it is needed.
                None: photos are aligned faces.
        """
        self.image_size, self._records = image_size, PhotoReader()
        self._load_detector = load_detector
        self._detector: MtcnnDetector | None = None

    def face(self, photo: Photo) -> np.ndarray:
        """Return the face of a photo, (height, width, 3) uint8 BGR. Raises UserError where there is none to use."""
        try:
            image = decode_photo(self._records.read(photo), photo.name)
        except OSError as error:
            raise UserError(f"cannot open {photo.name}: {error.strerror}") from error
        try:
            if photo.landmark:
                return align(image, np.reshape(photo.landmark, (2, 5)).T, self.image_size)
            if photo.aligned or self._load_detector is None:
                return fit(image, self.image_size)
            return self._found(image, self._load_detector)
        except ValueError as error:
            raise UserError(f"{photo.name}: {error}") from error

    def face_or_blank(self, photo: Photo) -> np.ndarray:
        """Return the face of a photo, or a blank one where there is none to use."""
        try:
            return self.face(photo)
        except UserError:
            return np.full((*self.image_size, 3), BLANK, np.uint8)

    def _found(self, image: np.ndarray, load_detector: Callable[[], MtcnnDetector]) -> np.ndarray:
        from insightface_mx.detection.finder import find_faces

        with mxnet_lock:
            self._detector = self._detector or load_detector()
        found = find_faces(self._detector, [image], longest=math.inf)[0]
        if found is None:
            raise ValueError("no face found; --aligned takes images as they are")
        return align(found.view.image, found.points[0].reshape(2, 5).T, self.image_size)


def load_detector(folder: str, device: str) -> MtcnnDetector:
    """Load the detector that `insightface-embed` uses; folder: its networks, '' for those of the package mtcnn."""
    from insightface_mx.detection.detector import MtcnnDetector
    from insightface_mx.engine.denormals import flush_in_threads
    from insightface_mx.engine.devices import get_contexts

    contexts = get_contexts(device)
    flush_in_threads(contexts)
    return MtcnnDetector(folder or None, accurate_landmark=bool(folder), ctx=contexts[0])


class Features:
    """The outputs of a network for photos, in a folder of their own; call `fill` first."""

    def __init__(
        self,
        photos: Sequence[Photo],
        reader: FaceReader,
        network: NetworkOptions,
        options: FeatureOptions,
        network_input: NetworkInput,
        device: str,
        with_mirror: bool,
        how: str = "",
    ) -> None:
        """Name the folder; nothing is written yet.

        Args:
            photos: The photos.
            reader: Reads them.
            network: The network.
            options: Where outputs are stored, and the batch size.
            network_input: How the network takes images.
            device: Of MXNet.
            with_mirror: Also compute the outputs for mirror images.
            how: Text that differs where the reader finds other faces.
        """
        self._photos, self._reader, self._options = photos, reader, options
        self._load = lambda: backends.load(
            network.model or "", reader.image_size, network.backend, device, network_input
        )
        settings = {
            "network": network.stamp(),
            "backend": network.backend,
            "image_size": reader.image_size,
            "faces": how,
            "photos": hashlib.sha256(repr(list(photos)).encode("utf-8", "surrogateescape")).hexdigest(),
            **network_input.given(),
        }
        stores = [self._named_store({**settings, "mirror": mirrored}) for mirrored in (True, False)]
        self._with_mirror = with_mirror or os.path.isdir(stores[0].folder)
        self._wants_mirror = with_mirror
        self._store = stores[0 if self._with_mirror else 1]
        self._chunks = len(range(0, len(photos), CHUNK))

    @property
    def folder(self) -> str:
        """Where the outputs are stored."""
        return self._store.folder

    @property
    def backend(self) -> str:
        """What computed the outputs; '' of those that an earlier version stored."""
        return str(self._store.load(0).get("backend", ""))

    def fill(self, description: str) -> None:
        """Compute the outputs that are not stored yet; the progress bar has this description."""
        with report_write_errors(self.folder):
            self._store.begin()
            missing = self._store.missing(self._chunks)
            missing = sorted({*missing, *self._outdated(set(range(self._chunks)) - set(missing))})
            if not missing:
                return
            backend = self._load()
            with tqdm(total=len(self._photos), unit="img", desc=description, disable=None) as progress:
                progress.update(len(self._photos) - sum(len(self._part(index)) for index in missing))
                for index, faces in self._faces(missing):
                    stamp = np.array(photos_stamp(self._part(index)))
                    self._store.save(
                        index, {"stamp": stamp, "backend": np.array(backend.name), **self._outputs(backend, faces)}
                    )
                    progress.update(len(faces))

    def all(self, vectors: Callable[[Part], np.ndarray]) -> np.ndarray:
        """Return what `vectors` makes of each part, (n, d), in one array that is there once."""
        rows: np.ndarray | None = None
        for part in self.parts():
            block = vectors(part)
            if rows is None:
                rows = np.empty((len(self._photos), block.shape[1]), block.dtype)
            rows[part.start : part.start + len(block)] = block
        if rows is None:
            raise ValueError("there is no photo")
        return rows

    def parts(self) -> Iterator[Part]:
        """Yield the outputs in the order of the photos."""
        for index in range(self._chunks):
            chunk = self._store.load(index)
            mirrored = chunk["mirrored"] if self._wants_mirror else None
            yield Part(index * CHUNK, chunk["plain"], mirrored, chunk["problems"].tolist())

    def _outdated(self, chunks: Iterable[int]) -> list[int]:
        """Return the stored chunks of which an image file has changed since."""
        return [index for index in chunks if self._store.load(index)["stamp"] != photos_stamp(self._part(index))]

    def _outputs(self, backend: backends.Backend, faces: list[np.ndarray | UserError]) -> dict[str, np.ndarray]:
        """Return the arrays of a chunk."""
        usable = [index for index, face in enumerate(faces) if not isinstance(face, UserError)]
        images = [face for face in faces if not isinstance(face, UserError)]
        batch = np.stack(images) if images else np.empty((0, 3, *self._reader.image_size), np.uint8)
        views = {"plain": batch, "mirrored": mirror(batch)} if self._with_mirror else {"plain": batch}
        arrays = {"problems": np.array(["" if isinstance(face, np.ndarray) else str(face) for face in faces], str)}
        for name, view in views.items():
            arrays[name] = np.zeros((len(faces), backend.length), np.float32)
            arrays[name][usable] = backend.embed(view, self._options.batch_size)
        return arrays

    def _faces(self, chunks: Sequence[int]) -> Iterator[tuple[int, list[np.ndarray | UserError]]]:
        """Yield each chunk's index and faces, or why there is none; the next ones are read while one is used."""
        with ThreadPoolExecutor(cpu_count(), "decode") as pool:
            waiting: list[tuple[int, list[Future[np.ndarray | UserError]]]] = []
            try:
                for chunk in chunks:
                    waiting.append((chunk, [pool.submit(self._face_or_error, photo) for photo in self._part(chunk)]))
                    if len(waiting) > 1:
                        index, faces = waiting.pop(0)
                        yield index, [face.result() for face in faces]
                for index, faces in waiting:
                    yield index, [face.result() for face in faces]
            finally:
                for _, faces in waiting:
                    for face in faces:
                        face.cancel()

    def _face_or_error(self, photo: Photo) -> np.ndarray | UserError:
        try:
            return network_input(self._reader.face(photo))
        except UserError as error:
            return error

    def _part(self, chunk: int) -> Sequence[Photo]:
        return self._photos[chunk * CHUNK : (chunk + 1) * CHUNK]

    def _named_store(self, settings: dict[str, object]) -> ChunkStore:
        text = json.dumps(settings, indent=1)
        name = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        return ChunkStore(os.path.join(self._options.features, name), text)


def refuse_missing(photos: Sequence[Photo], place: Callable[[int], str]) -> None:
    """Raise UserError if a photo's file does not exist; `place` names a photo's line by its index."""
    missing = [index for index, photo in enumerate(photos) if not os.path.isfile(photo.path)]
    if missing:
        more = f" ({len(missing)} images are missing in all)" if len(missing) > 1 else ""
        raise UserError(f"{place(missing[0])}: there is no file {photos[missing[0]].path}{more}")
