"""Tests of the weight-only criteria."""
