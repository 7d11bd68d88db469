"""Criteria from the activations of one forward pass: one file each."""
