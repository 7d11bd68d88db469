"""What vLLM loads to serve pruned directories without running their code."""
