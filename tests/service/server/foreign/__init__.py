"""Clients in other languages and proxies, in which a refusal must arrive as it does in Python."""
