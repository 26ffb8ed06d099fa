"""Benchmarks and load tests of the service, in which every response is checked."""
