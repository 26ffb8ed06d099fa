"""Clients of other projects, each a script that runs in an environment of its own: `script ADDRESS MODEL`."""
