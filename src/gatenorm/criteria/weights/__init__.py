"""Criteria that read weights only: one formula, one file."""
