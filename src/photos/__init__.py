"""From image files, lists and records to pixels."""
