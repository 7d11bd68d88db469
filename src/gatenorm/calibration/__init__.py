"""Calibration: criteria and curves that need forward passes, and how far they bear out a ranking by weights alone."""
