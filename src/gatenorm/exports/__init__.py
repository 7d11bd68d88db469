"""Forms that other engines read: GGUF and nemotron-nas, and the proof that they compute the same."""
