"""The tests of `training/fitting/`."""
