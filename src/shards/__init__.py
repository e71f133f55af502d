"""Class weights in shards over the contexts of a process: --fc7-shards and --sample-ratio, for sets of many classes."""
