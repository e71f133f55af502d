"""Put any kind of file on disk safely, and read those of strangers safely; the formats themselves are in formats."""
