"""A search for a resonance: the dijet mass of events that pass, a smooth fit, windows scanned for an excess."""
