"""Load a checkpoint as a network bound for inference, and compute embeddings with it."""

from __future__ import annotations

from typing import Callable

import numpy as np
from tqdm import tqdm

from insightface_mx.base.compat import Context, Module, NDArray, Params, Symbol, mx, mxnet_lock
from insightface_mx.base.errors import UserError
from insightface_mx.base.quiet import quiet_mxnet
from insightface_mx.base.repeats import first_places
from insightface_mx.cli.types import Size
from insightface_mx.engine import cpu_rewrite, denormals, face_network
from insightface_mx.engine.module_state import wait_for_moving_averages
from insightface_mx.engine.network_input import USUAL_INPUT, NetworkInput
from insightface_mx.formats import checkpoint


class InferenceModule:
    """A network bound for inference, in its fastest form for the device.

    It has the methods of MXNet's Module that `embed` calls. Set parameters before the first batch.
    """

    label_shapes = None

    def __init__(self, symbol: Symbol, contexts: list[Context], shape: tuple[int, ...]) -> None:
        """Prepare a network; `set_params` binds it.

        Args:
            symbol: The original graph, with the one input `data`.
            contexts: Where it runs.
            shape: Of the input, over all contexts; MXNet rebinds by itself for batches of another size.
        """
        self.symbol = symbol
        self._contexts, self._shapes = contexts, {"data": shape}
        self._module: Module = None

    def set_params(self, arg_params: Params, aux_params: Params) -> None:
        """Set parameters and moving averages; names that the symbol does not have are ignored.

        Rebinds, because oneDNN caches the weights of fused layers.
        """
        symbol, arg_params = cpu_rewrite.rewrite_for_inference(self.symbol, arg_params, self._contexts, self._shapes)
        self._module = mx.mod.Module(symbol, label_names=None, context=self._contexts)
        with quiet_mxnet():
            self._module.bind(list(self._shapes.items()), for_training=False)
        self._module.set_params(arg_params, aux_params, allow_extra=True)

    def forward(self, batch: mx.io.DataBatch, is_train: bool = False) -> None:
        """Run the network on a batch."""
        self._module.forward(batch, is_train=is_train)

    def get_outputs(self) -> list[NDArray]:
        """Return the outputs for the last batch."""
        return self._module.get_outputs()


def load_model(
    prefix: str,
    epoch: int,
    contexts: list[Context],
    batch_size: int,
    image_size: Size,
    network_input: NetworkInput = USUAL_INPUT,
) -> InferenceModule:
    """Load a checkpoint, with or without a training head, as a network whose only output is the embedding.

    Args:
        prefix: Path of the checkpoint without '-NNNN.params'.
        epoch: Number NNNN of the checkpoint.
        contexts: Where the network runs.
        batch_size: Images in one pass, over all contexts.
        image_size: (height, width) of the images.
        network_input: How the checkpoint's graph takes images; the network that is returned takes RGB of 0..255.

    Raises:
        UserError: A file is missing, holds no embedding, or does not fit the images; the message names it.
    """
    network = face_network.load(prefix, epoch, image_size, network_input)
    model = bind(network.symbol, contexts, batch_size, image_size)
    denormals.flush({**network.arg_params, **network.aux_params})
    try:
        model.set_params(network.arg_params, network.aux_params)
    except RuntimeError as error:  # of MXNet: types of arrays that do not go together, for example
        path, reason = checkpoint.params_path(prefix, epoch), str(error).strip().splitlines()[-1]
        raise UserError(f"{path}: MXNet cannot run this network ({reason})") from error
    return model


def bind(embedding: Symbol, contexts: list[Context], batch_size: int, image_size: Size) -> InferenceModule:
    """Return a network for images of (height, width) `image_size`, still without parameters; `batch_size` in all."""
    return InferenceModule(embedding, contexts, (batch_size, 3, *image_size))


def embed(
    data: NDArray | np.ndarray,
    model: InferenceModule | Module,
    batch_size: int,
    data_extra: NDArray | np.ndarray | None = None,
    label_shape: tuple[int, ...] | None = None,
) -> np.ndarray:
    """Compute the embeddings of images; an image that occurs several times, as in sets of pairs, is computed once.

    Args:
        data: (n, 3, height, width).
        model: Its output 0 is the embedding; it may have other outputs and labels, which are fed with ones.
        batch_size: Images in one pass.
        data_extra: A second input, the same for every batch.
        label_shape: Shape of the labels, if not as the Module was bound.

    Returns:
        (n, d) float64.
    """
    images = data.asnumpy() if isinstance(data, mx.nd.NDArray) else data
    extra = [] if data_extra is None else [mx.nd.array(data_extra)]
    labels = [mx.nd.ones(label_shape or (batch_size, *label.shape[1:])) for label in model.label_shapes or ()]

    def run(batch: np.ndarray) -> np.ndarray:
        with mxnet_lock:
            model.forward(mx.io.DataBatch([mx.nd.from_numpy(batch), *extra], labels), is_train=False)
            return model.get_outputs()[0].asnumpy()

    wait_for_moving_averages()
    return embed_in_batches(run, images, batch_size, batch_size).astype(np.float64)


def embed_in_batches(
    run: Callable[[np.ndarray], np.ndarray], images: np.ndarray, batch_size: int, smallest_batch: int = 1
) -> np.ndarray:
    """Compute the embeddings of images batch by batch; an image that occurs several times is computed once.

    The last batch is filled up with the images before it, because GNAP embeddings depend on the whole batch.

    Args:
        run: From a batch, contiguous float32 (b, 3, height, width), to its embeddings (b, d).
        images: (n, 3, height, width), n above 0.
        batch_size: Images in one pass.
        smallest_batch: Images in a pass where there are fewer in all; they are repeated then.

    Returns:
        (n, d), of the type that `run` returns.
    """
    firsts, places = np.unique(first_places(images), return_inverse=True)
    distinct = images[firsts]
    size = min(batch_size, max(smallest_batch, len(distinct)))
    embeddings = []
    hidden = True if len(distinct) <= size else None  # None: shown on a terminal
    with tqdm(total=len(distinct), unit="img", desc="embedding", leave=False, disable=hidden) as progress:
        for start in range(0, len(distinct), size):
            end = min(start + size, len(distinct))
            rows = np.arange(end - size, end) % len(distinct)
            embeddings.append(run(np.ascontiguousarray(distinct[rows], np.float32))[start - end :])
            progress.update(end - start)
    return np.concatenate(embeddings)[places]
