"""Counts of operations and bytes, a cost model, machines."""
