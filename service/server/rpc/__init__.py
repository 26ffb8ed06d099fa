"""The gRPC server of the Open Inference Protocol, imported only if it has a port, since it needs grpcio."""
