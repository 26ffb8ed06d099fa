"""Detectors beside public ones, on the same events."""
