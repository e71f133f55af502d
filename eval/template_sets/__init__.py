"""Test templates of several images: what insightface-ijb reads and writes."""
