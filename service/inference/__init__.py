"""Scheduling of scores: admission, micro-batches, fair scheduling, the model in use."""
