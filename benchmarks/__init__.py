"""Speed and load: how fast the service is, and whether every answer stays right."""
