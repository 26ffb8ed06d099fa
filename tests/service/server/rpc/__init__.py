"""Tests of the listening server of gRPC."""
