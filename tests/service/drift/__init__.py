"""Tests of service/drift."""
