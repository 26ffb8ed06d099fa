"""Monitoring of scored events against the model's background: accepted events, histograms and drift."""
