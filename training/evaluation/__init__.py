"""Metrics, mass sculpting, figures, the model card and the report."""
