"""Tests of `service.model`."""
