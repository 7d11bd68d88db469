"""GGUF files for llama.cpp, architecture deci."""
