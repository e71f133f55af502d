"""Bytes on disk: each format is read and written in one file."""
