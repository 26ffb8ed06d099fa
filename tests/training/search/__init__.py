"""Tests of the search for a resonance."""
