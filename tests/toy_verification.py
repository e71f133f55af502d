"""A verification set of twelve pairs, and networks whose embeddings numpy knows."""

import cv2
import numpy as np

from insightface_mx.base.compat import mx
from insightface_mx.formats import checkpoint
from insightface_mx.formats.verification_set import write_bin

HEIGHT, WIDTH, LENGTH = 16, 16, 3
PAIRS = 12
ISSAME = [True, False] * 6
FOLDS = 4


def photos():
    """24 noisy images of one colour on each side, RGB; those of the same pairs have nearly the same colours."""
    random = np.random.RandomState(11)
    colours = random.randint(60, 196, (2 * PAIRS, 2, 3))
    colours[1::4] = colours[0::4] + random.randint(-30, 31, (PAIRS // 2, 2, 3))
    noise = random.randint(-20, 21, (2 * PAIRS, HEIGHT, WIDTH, 3))
    return (colours.repeat(WIDTH // 2, axis=1)[:, np.newaxis] + noise).astype(np.uint8)


def weights(seed):
    """Whole numbers, unlike on the two sides of the image, so that sums are exact and mirror images differ."""
    random = np.random.RandomState(seed)
    channels = random.randint(-3, 4, (LENGTH, 3, 1, 2)).repeat(WIDTH // 2, axis=3)
    return (channels + random.randint(-2, 3, (LENGTH, 3, HEIGHT, WIDTH))).reshape(LENGTH, -1).astype(np.float32)


def expected_embeddings(seed):
    """What `test` must find: two (24, LENGTH) arrays, of the images and of the mirror images."""
    images = photos().transpose(0, 3, 1, 2).astype(np.float64)
    return [one.reshape(2 * PAIRS, -1) @ weights(seed).T.astype(np.float64) for one in (images, images[:, :, :, ::-1])]


def network():
    return mx.sym.FullyConnected(mx.sym.Flatten(mx.sym.var("data")), num_hidden=LENGTH, no_bias=True, name="fc1")


def training_network():
    fc1 = network()
    head = mx.sym.FullyConnected(fc1, num_hidden=5, name="fc7")
    return mx.sym.Group([mx.sym.BlockGrad(fc1), mx.sym.SoftmaxOutput(head, name="softmax")])


def write_folder(path):
    """Write toy.bin and the checkpoints net,1 (with a training head), slim,1 (the same without), net,2 and net,3."""
    encoded = [cv2.imencode(".png", photo[:, :, ::-1])[1] for photo in photos()]
    write_bin(str(path / "toy.bin"), encoded, ISSAME)
    head = {"fc7_weight": mx.nd.ones((5, LENGTH)), "fc7_bias": mx.nd.zeros(5)}
    save(path / "net", 1, training_network(), {"fc1_weight": mx.nd.array(weights(1)), **head})
    save(path / "slim", 1, network(), {"fc1_weight": mx.nd.array(weights(1))})
    for epoch in (2, 3):
        save(path / "net", epoch, training_network(), {"fc1_weight": mx.nd.array(weights(epoch)), **head})


def save(prefix, epoch, symbol, arg_params):
    checkpoint.save(str(prefix), epoch, symbol, arg_params, {})


def options(folder, *more, model="net,1", target="toy", size=f"{HEIGHT},{WIDTH}"):
    required = ["--data-dir", str(folder), "--model", str(folder / model), "--target", target]
    sized = ["--image-size", size] if size else []
    return [*required, *sized, "--nfolds", str(FOLDS), "--batch-size", "5", *more]
