"""Other ways to serve the same exported graph: one entry of the catalogue and one file of `servers/` each."""
