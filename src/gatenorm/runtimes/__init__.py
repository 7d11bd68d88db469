"""Runtimes: where a pruned checkpoint runs. One module a target."""
