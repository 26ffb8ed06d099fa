"""The tests of `training/jobs/engines/`."""
