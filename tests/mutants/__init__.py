"""Deliberate faults in the code, each of which the tests of its part must notice."""
