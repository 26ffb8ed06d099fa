"""The tests of `training/simulation/`."""
