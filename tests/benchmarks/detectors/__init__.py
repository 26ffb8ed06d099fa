"""The tests of `benchmarks/detectors/`."""
