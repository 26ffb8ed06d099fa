"""Simulated events: generator, detector, jets; and the features of particle-level files."""
