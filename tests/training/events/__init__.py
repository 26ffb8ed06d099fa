"""The tests of `training/events/`."""
