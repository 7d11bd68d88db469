"""Where calibration tokens come from: a text, the model itself, or a random draw."""
