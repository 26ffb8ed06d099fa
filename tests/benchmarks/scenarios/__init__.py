"""Tests of benchmarks/scenarios."""
