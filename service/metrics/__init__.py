"""What is counted of requests, of all workers together, and reported to Prometheus and the live page."""
