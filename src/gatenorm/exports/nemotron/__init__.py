"""Directories in the nemotron-nas form."""
