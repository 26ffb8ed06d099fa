"""Clients of other projects, run by an interpreter that has their packages."""
