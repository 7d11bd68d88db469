"""Finished measurements: which code, models, software and protocol they follow from, and where they are kept."""

from gatenorm.results.fingerprint import Fingerprint, versions
from gatenorm.results.location import cache_directory
from gatenorm.results.store import ResultStore, check_same

__all__ = ["Fingerprint", "ResultStore", "cache_directory", "check_same", "versions"]
