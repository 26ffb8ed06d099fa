"""Fuzzers: input made by chance and by coverage, for a limited time."""
