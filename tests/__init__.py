"""The tests: they mirror the packages that they test."""
