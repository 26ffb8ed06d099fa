"""New model files, keys and certificates without a restart."""
