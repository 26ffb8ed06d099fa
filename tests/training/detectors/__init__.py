"""The tests of `training/detectors/`."""
