"""A package that adds one of each to gatenorm: the source of ``tests/plugin/test_plugin.py``."""
