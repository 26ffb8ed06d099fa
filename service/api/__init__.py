"""The protocols, each a thin layer over inference."""
