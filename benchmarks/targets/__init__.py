"""What is measured: the service, and what it is compared with."""
