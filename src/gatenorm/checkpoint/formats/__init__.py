"""Formats in which weights are stored, each behind the same door."""
