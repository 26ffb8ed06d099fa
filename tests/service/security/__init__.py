"""Tests of `service.security`."""
