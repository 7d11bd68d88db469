"""Criteria: functions that score every layer, from its weights or from running the model on tokens."""
