"""Conversion between bytes and NumPy arrays, one module per format."""
