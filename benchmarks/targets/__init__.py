"""The measured servers: the service and those with which it is compared."""
