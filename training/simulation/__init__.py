"""Simulation of events: generator, detector and jets; features of particle-level files."""
