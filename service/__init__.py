"""The online half: scores events over HTTP with an exported graph. It knows no training and no physics."""
