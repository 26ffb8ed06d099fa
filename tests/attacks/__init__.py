"""Attacks on a service of this machine, and the latencies of other clients meanwhile."""
