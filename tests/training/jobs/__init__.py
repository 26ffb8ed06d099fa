"""The tests of `training/jobs/`."""
