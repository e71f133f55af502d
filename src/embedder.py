"""Offer the embedder to other programs: `from insightface_mx.embedder import Embedder`. The code is in embedding/."""

from insightface_mx.embedding.embedder import Embedder

__all__ = ["Embedder"]
