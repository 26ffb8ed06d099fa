"""Search for a resonance: the dijet mass of selected events, a smooth fit, and a scan of windows for an excess."""
