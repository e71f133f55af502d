"""A training set of pictures that differ in brightness, for the tools that read or edit sets."""

import pytest
from brightness_set import face

from insightface_mx.formats.training_set import write_training_set


@pytest.fixture
def data_dir(tmp_path):
    """Identities 0 to 3 with 1, 2, 3 and 6 images."""
    people = [[face(person, number) for number in range(count)] for person, count in enumerate((1, 2, 3, 6))]
    write_training_set(str(tmp_path / "data"), people, (32, 32))
    return tmp_path / "data"
