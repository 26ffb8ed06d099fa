"""Tests of `service.reload`."""
