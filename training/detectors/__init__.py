"""Anomaly detectors as torch modules, from raw features to anomaly score, and their presets."""
