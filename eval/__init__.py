"""Measure how well embeddings tell identities apart."""
