"""The matrix products that criteria from weights rest on, in NumPy or PyTorch."""
