"""gatenorm: find the attention sublayers of an open LLM that have gone to sleep, and remove them."""

__version__ = "0.1.0"
