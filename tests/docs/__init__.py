"""Tests of README, the pages below docs/ and the files about the project."""
