"""Criteria that read the activations of one forward pass."""
