"""Load generators, and the outcome of each request."""
