"""Directories of safetensors files: one file, or shards with an index."""

from gatenorm.checkpoint.formats.safetensors.store import FORMAT

__all__ = ["FORMAT"]
