"""The server of each peer, run by the Python of the peer's own environment: it has NumPy, and not what we need."""
