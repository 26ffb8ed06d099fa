"""Tests of `service.formats`."""
