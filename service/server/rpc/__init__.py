"""The Open Inference Protocol over gRPC: a listening server; imported where it has a port, since it needs grpcio."""
