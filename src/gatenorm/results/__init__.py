"""Finished measurements: which code, model, tokenizer and protocol they belong to."""
