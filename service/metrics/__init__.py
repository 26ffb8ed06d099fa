"""Metrics of requests, summed over all workers, for Prometheus and the live page."""
