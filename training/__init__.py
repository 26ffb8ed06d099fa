"""The offline half: events -> a trained, exported detector."""
