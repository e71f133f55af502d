"""Offer the original's names to other programs; the code is in eval/pairs.py and engine/network.py."""

from insightface_mx.engine.network import embed, load_model
from insightface_mx.eval.pairs import load_bin, test

__all__ = ["embed", "load_bin", "load_model", "test"]
