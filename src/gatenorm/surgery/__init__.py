"""Surgery: carry a plan out, on disk or on a live module."""
