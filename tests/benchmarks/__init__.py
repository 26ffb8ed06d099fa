"""Tests of the benchmarks, of all that is not timed."""
