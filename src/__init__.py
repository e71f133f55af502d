"""Face recognition on Apache MXNet: the 2018 InsightFace (ArcFace) code on today's Python."""

__version__ = "0.1.0"
