"""Engines that run a model: llama.cpp, MLX-LM, transformers, vLLM."""
