"""The gRPC port: it is reserved at the start, and all workers listen on it."""

import socket
from contextlib import closing
from importlib.util import find_spec
from typing import Self

from service.server.listener import Listener


class MissingPackageError(Exception):
    """A package that a setting needs is not installed: the message names both."""


class GrpcPort:
    """A port that is reserved while this is open; each worker listens on it (SO_REUSEPORT)."""

    def __init__(self, reserved: socket.socket) -> None:
        self._reserved = reserved

    @classmethod
    def reserve(cls, host: str, port: int) -> Self:
        """Reserve a port, a free one for 0; raises MissingPackageError and, as `Listener.open`, CannotListenError."""
        if find_spec("grpc") is None:
            raise MissingPackageError("--grpc-port needs the package grpcio: pip install 'lhc-anomaly[grpc]'")
        # Sockets of one user may share a port, so only a socket that does not share it detects another service.
        with closing(Listener.open(host, port, "--grpc-port", spare=0)) as listener:
            family, address = listener.socket.family, listener.socket.getsockname()
        reserved = socket.socket(family, socket.SOCK_STREAM)
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(address)
        return cls(reserved)

    @property
    def address(self) -> str:
        """The address as `host:port`."""
        host, port = self._reserved.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def close(self) -> None:
        """Release the port."""
        self._reserved.close()
