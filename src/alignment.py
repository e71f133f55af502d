"""Offer alignment to other programs: `from insightface_mx.alignment import preprocess`. The code is in photos/."""

from insightface_mx.photos.alignment import preprocess

__all__ = ["preprocess"]
