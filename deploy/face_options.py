"""Declare the options of FaceModel, and of the commands that use it."""

import dataclasses
from argparse import ArgumentTypeError
from typing import Any, Optional

from insightface_mx.base.errors import UserError
from insightface_mx.cli.fields import option
from insightface_mx.cli.types import AT_LEAST_ONE
from insightface_mx.cli.types import image_size as parse_size
from insightface_mx.embedding.options import NetworkOptions
from insightface_mx.engine import BATCH_SIZE
from insightface_mx.engine.network_input import USUAL_INPUT, NetworkInput

THRESHOLD = 1.24  # squared distance of unit embeddings; below it two faces show one identity


@dataclasses.dataclass(frozen=True)
class FaceOptions(NetworkOptions):
    """How faces are found and embedded. Raises UserError for values that do not fit."""

    det: int = option(0, "0: look for faces everywhere; 1: images are crops of one face", choices=(0, 1))
    detector: str = option(
        "", "folder with the original's det1 to det4 (default: the weights of the package mtcnn)", metavar="DIR"
    )
    ga_model: Optional[str] = option(None, "the network for gender and age, as model", own_parser=True)
    flip: bool = option(False, "embed the image plus its mirror image, as verification.py does", own_parser=True)
    threshold: float = option(THRESHOLD, "squared distance, 0 to 4, below which two faces match", own_parser=True)
    gpu: int = option(0, "index of a GPU; -1, or no such GPU: the CPU", own_parser=True)
    network_input: NetworkInput = option(USUAL_INPUT, "how the network takes images", own_parser=True)
    ctx: str = option("", "device, in place of gpu, as devices.get_contexts takes it", own_parser=True)

    def __post_init__(self) -> None:
        """Check the values."""
        if self.det not in (0, 1):
            raise UserError(f"det is 0, the whole detector, or 1, its last networks, not {self.det}")

    @property
    def device(self) -> str:
        """The device that ctx or gpu chooses, as `devices.get_contexts` takes it."""
        if self.ctx:
            return self.ctx
        return f"gpu-or-cpu:{self.gpu}" if self.gpu >= 0 else "cpu"


@dataclasses.dataclass(frozen=True)
class EmbedOptions:
    """Which faces of an image are embedded, and how many images at a time."""

    aligned: bool = option(False, "images are aligned faces: no detection, only fitted to --image-size")
    all_faces: bool = option(False, "every face of an image, not only the most probable one")
    batch_size: int = option(BATCH_SIZE, "images at a time", allowed=AT_LEAST_ONE, metavar="N")


def make_face_options(given: Optional[object] = None, **named: Any) -> FaceOptions:
    """Collect the options of FaceModel; those of its field network_input go by their own names.

    Args:
        given: An object whose attributes are options, such as argparse gives; its other attributes are ignored.
        named: Options by name; they replace those of `given`. An image size may be text, '112,112'.

    Raises:
        TypeError: There is no option of a name.
        UserError: A value does not fit.
    """
    names = [field.name for cls in (FaceOptions, NetworkInput) for field in dataclasses.fields(cls)]
    unknown = sorted(set(named) - set(names))
    if unknown:
        raise TypeError(f"FaceModel has no option {unknown[0]}; there are {', '.join(names)}")
    values = {name: getattr(given, name) for name in names if hasattr(given, name)}
    values.update(named)
    of_input = {field.name: values.pop(field.name, None) for field in dataclasses.fields(NetworkInput)}
    values["network_input"] = NetworkInput(**of_input).or_else(values.get("network_input", USUAL_INPUT))
    size = values.get("image_size")
    if isinstance(size, str):
        try:
            values["image_size"] = parse_size(size)
        except ArgumentTypeError as error:
            raise UserError(str(error)) from error
    elif size is not None:
        values["image_size"] = tuple(size)
    return FaceOptions(**values)
