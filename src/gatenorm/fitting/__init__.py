"""Fitting what takes a sublayer's place: moments of its inputs and updates, and the maps that they give."""
