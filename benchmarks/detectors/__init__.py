"""Comparison of the detectors with public ones, on the same events."""
