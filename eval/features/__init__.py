"""Embed many faces once and store them: for insightface-ijb and insightface-identify."""
