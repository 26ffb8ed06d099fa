"""The HTTP and gRPC protocols, each a thin layer over inference."""
