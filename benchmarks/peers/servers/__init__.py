"""The server of each peer, run in the peer's own environment: those in Python have NumPy, and not what we need."""
