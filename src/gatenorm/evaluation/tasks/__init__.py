"""One file a task: perplexity, zero-shot, own workload, refusals, retrieval, loss by position, lm-eval."""
