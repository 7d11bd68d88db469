"""Engines: the programs that serve models, asked by one protocol so that they can be compared."""
