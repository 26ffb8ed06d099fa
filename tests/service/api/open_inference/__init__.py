"""Tests of `service.api.open_inference`."""
