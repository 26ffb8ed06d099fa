"""Scored events beside the background that the model was made with: accepted events, histograms and drift."""
