"""From a verification set and a network to embeddings and their accuracy; training and verification.py share it."""

import hashlib

import numpy as np
from tqdm import tqdm

from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError
from insightface_mx.engine import denormals
from insightface_mx.engine.inference import InferenceModule
from insightface_mx.formats import checkpoint

OUTPUT = "fc1_output"  # every network's embedding
BATCH_SIZE = 32  # images in one pass, unless the user says otherwise


def load_model(prefix, epoch, ctx, batch_size, image_size):
    """A checkpoint as an InferenceModule, its only output the embedding; with or without a training head.

    Raises UserError naming the file that is missing, has no embedding, or does not fit the images.
    """
    symbol, arg_params, aux_params = checkpoint.load(prefix, epoch)
    embedding = embedding_of(symbol, prefix)
    check_fit(embedding, {**arg_params, **aux_params}, image_size, checkpoint.params_path(prefix, epoch))
    model = bind(embedding, ctx, batch_size, image_size)
    denormals.flush({**arg_params, **aux_params})
    model.set_params(arg_params, aux_params)
    return model


def embedding_of(symbol, prefix):
    """The part of a checkpoint's symbol up to the embedding. Raises UserError, naming its file, where it has none."""
    internals = symbol.get_internals()
    if OUTPUT not in internals.list_outputs():
        raise UserError(f"{checkpoint.symbol_path(prefix)} has no node {OUTPUT}: it is not a face recognition network")
    return internals[OUTPUT]


def bind(embedding, ctx, batch_size, image_size):
    """An InferenceModule with the symbol `embedding`, still without parameters.

    ctx: a context or a list. batch_size: images, over all contexts. image_size: (height, width).
    """
    contexts = ctx if isinstance(ctx, list) else [ctx]
    return InferenceModule(embedding, contexts, (batch_size, 3, *image_size))


def embed(data, model, batch_size, data_extra=None, label_shape=None):
    """Embeddings of images as an InferenceModule or a bound Module computes them: (n, d) float64.

    data: (n, 3, height, width), an NDArray or numpy array. model: output 0 is the embedding; other outputs and labels
    (fed with ones) do not matter. data_extra: a second input, the same for every batch. label_shape: where the
    Module's own does not serve. An image that occurs several times, as in sets of pairs, is computed once.
    """
    distinct, places = _distinct(data)
    return _embed(distinct, model, batch_size, data_extra, label_shape)[places]


def _distinct(data):
    """Images without repetition, and the place of every image of `data` among them."""
    data = data.asnumpy() if isinstance(data, mx.nd.NDArray) else data
    first, places = {}, np.empty(len(data), np.int64)
    for number, image in enumerate(data):
        key = hashlib.blake2b(np.ascontiguousarray(image), digest_size=16).digest()
        places[number] = first.setdefault(key, (len(first), number))[0]
    return data[[number for _, number in first.values()]], places


def _embed(data, model, batch_size, data_extra, label_shape):
    count = len(data)
    extra = [] if data_extra is None else [mx.nd.array(data_extra)]
    labels = [mx.nd.ones(label_shape or (batch_size, *label.shape[1:])) for label in model.label_shapes or ()]
    embeddings = []
    mx.nd.waitall()  # a training step may still be writing the moving averages, which the forward pass does not await
    with tqdm(total=count, unit="img", desc="embedding", leave=False, disable=None) as progress:
        for start in range(0, count, batch_size):
            end = min(start + batch_size, count)
            # The last batch is filled up with the images before it: GNAP embeddings depend on the whole batch.
            numbers = np.arange(end - batch_size, end) % count
            images = mx.nd.from_numpy(np.ascontiguousarray(data[numbers], np.float32))
            model.forward(mx.io.DataBatch([images, *extra], labels), is_train=False)
            embeddings.append(model.get_outputs()[0].asnumpy()[start - end :])
            progress.update(end - start)
    return np.concatenate(embeddings).astype(np.float64)


def check_fit(embedding, params, image_size, path):
    """Raise UserError, naming `path`, where a symbol takes no images of image_size or has not these params."""
    misfit = f"{path} does not fit its symbol and --image-size {','.join(map(str, image_size))}"
    try:
        arguments, _, auxiliary = embedding.infer_shape(data=(1, 3, *image_size))
    except mx.base.MXNetError as error:
        raise UserError(f"{misfit}: the symbol takes no such images") from error
    names = embedding.list_arguments() + embedding.list_auxiliary_states()
    for name, shape in zip(names, arguments + auxiliary):
        found = params[name].shape if name in params else "missing"
        if name != "data" and found != shape:
            raise UserError(f"{misfit}: {name} is {found}, not {shape}")
