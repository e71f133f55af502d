"""Declare the options that choose a network and what runs it."""

import dataclasses
from typing import Optional

from insightface_mx.cli.fields import option
from insightface_mx.cli.types import Size
from insightface_mx.cli.types import image_size as parse_size
from insightface_mx.embedding.choices import CHOICES


@dataclasses.dataclass(frozen=True)
class NetworkOptions:
    """Which network embeds faces, and what runs it."""

    model: Optional[str] = option(
        None,
        "the network, for example ../model/r50,1",
        parse=str,
        metavar="PREFIX,EPOCH|FILE.onnx",
        required=True,
    )
    image_size: Optional[Size] = option(
        None,
        "the network's input, pixels (default: from the checkpoint or ONNX file, otherwise 112,112)",
        parse=parse_size,
        metavar="H,W",
    )
    backend: str = option(
        "auto",
        "what runs the network; auto: MXNet on a GPU, otherwise the fastest installed one that agrees with MXNet",
        choices=CHOICES,
    )

    def stamp(self) -> str:
        """Return text that changes when the network's parameters do."""
        from insightface_mx.formats import checkpoint
        from insightface_mx.photos.sources import file_stamp

        path = self.model or ""
        if not path.endswith(".onnx"):
            path = checkpoint.params_path(*checkpoint.parse(path))
        return file_stamp(path)
