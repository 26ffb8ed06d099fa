"""The port of gRPC: it is reserved at the start, and all workers listen on it."""

import socket
from contextlib import closing
from importlib.util import find_spec
from typing import Self

from service.server.listener import Listener


class MissingPackageError(Exception):
    """A package that a setting needs is not installed: the message names both."""


class GrpcPort:
    """A port that is kept for workers, which each listen on it (SO_REUSEPORT), as long as this is open."""

    def __init__(self, reserved: socket.socket) -> None:
        self._reserved = reserved

    @classmethod
    def reserve(cls, host: str, port: int) -> Self:
        """Reserve a port, a free one for 0; raises MissingPackageError, and CannotListenError as `Listener.open`."""
        if find_spec("grpc") is None:
            raise MissingPackageError("--grpc-port needs the package grpcio: pip install 'lhc-anomaly[grpc]'")
        # Sockets of one user may share a port, so that another service on it shows only to one that does not share.
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
        """Give the port back."""
        self._reserved.close()
