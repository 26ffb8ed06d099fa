"""Other servers for the same exported graph: an entry of the catalogue and a file of `servers/` each."""
