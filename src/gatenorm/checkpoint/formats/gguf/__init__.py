"""GGUF files: header, metadata, tensors and their quantised types, read without trust."""
