"""What the tests of detection share."""

import pytest

from insightface_mx.detection import weights as mtcnn_weights
from insightface_mx.formats import checkpoint


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """The package's weights as the original's files det1 to det3."""
    folder = tmp_path_factory.mktemp("mtcnn-model")
    for name in "pro":
        network = mtcnn_weights.NETWORKS[name]
        checkpoint.save(str(folder / network.checkpoint), 1, network.symbol(), mtcnn_weights.load(name), {})
    return folder
