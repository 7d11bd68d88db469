"""Evaluation: what survives pruning, each figure with its protocol."""
