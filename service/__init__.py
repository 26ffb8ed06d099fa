"""The online half: scores events over HTTP with an exported graph. It knows no training and no physics."""

__version__ = "0.1.0"
"""The version of the whole package: pyproject.toml, both command lines and the exported models take it from here."""
