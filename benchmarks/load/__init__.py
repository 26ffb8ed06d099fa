"""Load generators: what sends requests, and what became of each."""
