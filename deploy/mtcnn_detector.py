"""Offer the face detector under the name of the original's module; the code is in detection/detector.py."""

from insightface_mx.detection.detector import MtcnnDetector

__all__ = ["MtcnnDetector"]
