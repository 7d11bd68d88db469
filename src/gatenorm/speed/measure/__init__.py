"""Latency, throughput and memory, measured in turns."""
