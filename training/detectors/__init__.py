"""Anomaly detectors as torch modules, from raw features to the anomaly score, and their presets."""
