"""What is served: the artefact, its checks, and the session that scores with it."""
