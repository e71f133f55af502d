"""Search probes in a gallery: what insightface-identify reads and writes."""
