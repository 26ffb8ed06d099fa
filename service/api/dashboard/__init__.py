"""The live page, on which an operator monitors the service."""
