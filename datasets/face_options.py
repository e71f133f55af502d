"""The options of commands that prepare faces from photos."""

import dataclasses
from typing import Optional

from insightface_mx.base.errors import UserError
from insightface_mx.cli.fields import changed, option, refuse_idle
from insightface_mx.cli.types import Range, Size, image_size, size_text

ALIGNED_SIZES = ((112, 112), (112, 96))  # height and width that faces are aligned to
SMALLEST_FACE = 12  # pixels, MTCNN's
NO_DETECTION = "with --aligned, which looks for no faces: leave it out"
_QUALITY = Range("from 1 to 100", lambda value: 1 <= value <= 100)
_FACE = Range(f"{SMALLEST_FACE} or more", lambda value: value >= SMALLEST_FACE)


@dataclasses.dataclass(frozen=True)
class FaceOptions:
    """How faces are made from photos. Raises UserError for values that do not fit."""

    aligned: bool = option(False, "the photos are aligned crops: find no faces in them")
    image_size: Size = option((112, 112), "height,width of the faces, in pixels", parse=image_size)
    png: bool = option(False, "store faces as PNG, without loss, in place of JPEG")
    quality: int = option(95, "quality of the JPEGs, 1 to 100", allowed=_QUALITY)
    no_face: str = option("skip", "photos without a found face: skip, or crop their centre", choices=("skip", "crop"))
    min_face: int = option(20, f"smallest face to look for, pixels, from {SMALLEST_FACE} on", allowed=_FACE)
    detector: Optional[str] = option(
        None, "folder of MTCNN's det1..det3 checkpoints (default: the package mtcnn)", parse=str
    )

    def __post_init__(self) -> None:
        """Check the values, and refuse options that cannot act."""
        if self.aligned:
            refuse_idle(changed(self, "no_face", "min_face", "detector"), NO_DETECTION)
        if self.png:
            refuse_idle(changed(self, "quality"), "with --png: leave one of them out")
        if not self.aligned and self.image_size not in ALIGNED_SIZES:
            raise UserError(
                f"--image-size {size_text(self.image_size)}: faces are aligned to 112,112 or 112,96; other sizes need "
                "--aligned"
            )
