"""GGUF files for llama.cpp, architectures llama and deci."""
