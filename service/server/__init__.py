"""Processes, sockets, POSIX signals and HTTP/1.1."""
