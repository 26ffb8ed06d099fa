"""Bytes to NumPy arrays and back, one module a format."""
