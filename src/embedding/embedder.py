"""Images of a set as unit embeddings, to tell persons and mistakes apart with a trained network."""

import numpy as np
from tqdm import tqdm

from insightface_mx.base.errors import UserError
from insightface_mx.embedding.vectors import normalize
from insightface_mx.engine import network as embedding
from insightface_mx.engine.denormals import flush_in_threads
from insightface_mx.engine.devices import get_contexts
from insightface_mx.formats import checkpoint
from insightface_mx.photos.decode import decode_face

_AT_ONCE = 1024  # decoded images in memory


class Embedder:
    """A checkpoint, 'PREFIX,EPOCH', that embeds images of image_size (height, width); ctx: see devices.get_contexts."""

    def __init__(self, model, image_size, ctx="", batch_size=embedding.BATCH_SIZE):
        prefix, epoch = checkpoint.parse(model)
        self._size, self._batch = image_size, batch_size
        contexts = get_contexts(ctx)
        flush_in_threads(contexts)
        self._model = embedding.load_model(prefix, epoch, contexts, batch_size, image_size)

    def __call__(self, encoded):
        """Unit embeddings (n, d) of encoded images, each that of the image plus its mirror image.

        encoded: a sized iterable of bytes; an image that cannot be decoded raises UserError with its place.
        """
        parts, images = [np.empty((0, 0))], []
        for place, image in enumerate(tqdm(encoded, unit="img", desc="embedding", leave=False, disable=None)):
            images.append(self._decode(place, image))
            if len(images) == _AT_ONCE:
                parts.append(self._embed(images))
                images = []
        if images:
            parts.append(self._embed(images))
        return np.concatenate(parts[1:]) if len(parts) > 1 else parts[0]

    def _decode(self, place, encoded):
        image = decode_face(encoded, self._size)
        if image is None:
            raise UserError(f"image {place} of the set cannot be decoded: repair it first (insightface-check-set)")
        return image.transpose(2, 0, 1)

    def _embed(self, images):
        views = np.stack(images), np.stack(images)[..., ::-1]
        return normalize(sum(embedding.embed(view, self._model, self._batch) for view in views))
