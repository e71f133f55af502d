"""Declare the options of insightface-identify that say what a search is."""

import dataclasses
from typing import Optional

from insightface_mx.cli.fields import option
from insightface_mx.embedding.options import NetworkOptions

ON, OFF = "on", "off"  # --mirror


@dataclasses.dataclass(frozen=True)
class OptionalNetwork(NetworkOptions):
    """A network, which feature files do without."""

    model: Optional[str] = option(
        None,
        "the network, for example ../model/r50,1; needed unless all sets are feature files",
        parse=str,
        metavar="PREFIX,EPOCH|FILE.onnx",
    )


@dataclasses.dataclass(frozen=True)
class FaceFinding:
    """How faces are found in photos."""

    aligned: bool = option(False, "photos are aligned faces: no detection, only fitted to --image-size")
    detector: str = option(
        "", "folder with the original's det1 to det4 (default: the weights of the package mtcnn)", metavar="DIR"
    )
