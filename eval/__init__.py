"""Verification of embeddings."""
