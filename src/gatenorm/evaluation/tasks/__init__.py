"""One file a task: perplexity, zero-shot, own workload, refusals, retrieval, several steps, positions, lm-eval."""
