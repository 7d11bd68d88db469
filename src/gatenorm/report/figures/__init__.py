"""Every figure, drawn once."""
