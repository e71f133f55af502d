"""Turn aligned faces into unit embeddings.

embedder = Embedder("model/r50,1")
embeddings = embedder.files(["a.jpg", "b.jpg"])  # aligned faces; (2, 512), of unit length
"""

from __future__ import annotations

from itertools import islice
from typing import Iterable, Iterator

import numpy as np

from insightface_mx.base.errors import UserError
from insightface_mx.cli.types import Size
from insightface_mx.embedding import backends
from insightface_mx.embedding.vectors import mirror, normalize, unit_with_mirror
from insightface_mx.engine import BATCH_SIZE
from insightface_mx.engine.network_input import USUAL_INPUT, NetworkInput
from insightface_mx.photos.decode import decode_face, fit, network_input, read_photo

_DECODED_AT_ONCE = 1024  # images in memory


class Embedder:
    """A network that turns aligned faces into unit embeddings; several threads may use one object.

    Attributes:
        backend: The back end that runs the network, with its name.
        image_size: Height and width of an image in pixels.
        length: Of an embedding.
    """

    def __init__(
        self,
        model: str,
        image_size: Size | None = None,
        device: str = "",
        flip: bool = True,
        backend: str = "auto",
        batch_size: int = BATCH_SIZE,
        network_input: NetworkInput = USUAL_INPUT,
    ) -> None:
        """Load the network.

        Args:
            model: A checkpoint 'PREFIX,EPOCH', or an ONNX file that export_onnx.py or quantize.py wrote.
            image_size: Height and width in pixels. None: as the checkpoint's manifest or the ONNX file says, otherwise
                112, 112.
            device: 'cpu', 'gpu:0' ..., see `devices.get_contexts`. '': the GPUs of CUDA_VISIBLE_DEVICES, otherwise the
                CPU.
            flip: Add the embedding of the mirror image, as the test on verification sets does.
            backend: 'mxnet', 'onnxruntime', 'openvino', or 'auto': the fastest one that agrees with MXNet.
            batch_size: Images in one pass.
            network_input: How a checkpoint that is not from here takes images, and its embedding's node.

        Raises:
            UserError: A file is missing, damaged or does not fit, or a package is not installed.
        """
        self.backend = backends.load(model, image_size, backend, device, network_input)
        self.image_size = self.backend.image_size
        self.length = self.backend.length
        self._flip, self._batch_size = flip, batch_size

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Return unit embeddings (n, length), float64, of images (n, 3, height, width), RGB of 0..255.

        Raises:
            ValueError: The images have another shape.
        """
        images = np.asarray(images)
        plain = self._embed(images)
        return unit_with_mirror(plain, self._embed(mirror(images))) if self._flip else normalize(plain)

    def files(self, paths: Iterable[str]) -> np.ndarray:
        """Return unit embeddings (n, length) of image files that show an aligned face each.

        Raises:
            UserError: A file cannot be opened or decoded; the message names it.
        """
        return self._embed_all(network_input(fit(read_photo(path), self.image_size)) for path in paths)

    def encoded(self, faces: Iterable[bytes]) -> np.ndarray:
        """Return unit embeddings (n, length) of aligned faces given as the bytes of image files.

        Raises:
            UserError: An image cannot be decoded; the message gives its index.
        """
        return self._embed_all(self._decode(index, face) for index, face in enumerate(faces))

    def _embed(self, images: np.ndarray) -> np.ndarray:
        return self.backend.embed(images, self._batch_size).astype(np.float64)

    def _embed_all(self, images: Iterator[np.ndarray]) -> np.ndarray:
        """Embed images (3, height, width), of which a limited number is in memory."""
        embeddings = [np.empty((0, self.length))]
        while True:
            chunk = list(islice(images, _DECODED_AT_ONCE))
            if not chunk:
                return np.concatenate(embeddings)
            embeddings.append(self(np.stack(chunk)))

    def _decode(self, index: int, face: bytes) -> np.ndarray:
        image = decode_face(face, self.image_size)
        if image is None:
            raise UserError(f"image {index} of the set cannot be decoded: repair it first (insightface-check-set)")
        return image.transpose(2, 0, 1)
