"""The training package: events -> a trained, exported detector."""
