"""The online half: scores events over HTTP with an exported graph. It contains no training and no physics."""

from pathlib import Path

__version__ = "0.1.0"
"""The version of the whole package, also in pyproject.toml, both command lines and the exported models."""

SHIPPED_MODEL = Path(__file__).with_name("autoencoder.onnx")
"""The default model of both halves: a link to `exported/` in a checkout, a file where the package is installed."""
