"""Collisions, detector, jets and signals: from nothing, or from particles, to events."""
