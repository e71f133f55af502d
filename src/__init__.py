"""Face recognition on Apache MXNet: the 2018 InsightFace (ArcFace) code on today's Python."""

from insightface_mx.base import __version__

__all__ = ["__version__"]
