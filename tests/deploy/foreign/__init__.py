"""What checks manifests, in the environment of `make build/deploy/ready`."""
