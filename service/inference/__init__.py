"""Which events are scored when: admission, micro-batches, fair scheduling, the model in use."""
