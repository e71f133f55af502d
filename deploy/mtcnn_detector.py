"""The original's module of the face detector; it lives in insightface_mx.detection.detector."""

from insightface_mx.detection.detector import MtcnnDetector

__all__ = ["MtcnnDetector"]
