"""A listening socket, which accepts connections while file descriptors are left."""

import errno
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from service.server.descriptors import EXHAUSTED, SPARE_DESCRIPTORS, Descriptors

BACKLOG: Final = 2048

BATCH: Final = 16
"""Maximum number of connections that are accepted in one batch."""


class CannotListenError(Exception):
    """The address cannot be listened on; the message names it, the reason and the remedy."""


class Listener:
    """A listening socket."""

    def __init__(self, listening: socket.socket, spare: int = SPARE_DESCRIPTORS) -> None:
        """Reserve `spare` descriptors for other uses."""
        listening.setblocking(False)
        self.socket = listening
        self._descriptors = Descriptors(spare)
        self.pause = self._descriptors.pause
        self._path: tuple[str, int] | None = None
        """The path and the inode of a Unix domain socket that was opened here."""

    @classmethod
    def open(cls, host: str, port: int, flag: str = "--port", spare: int = SPARE_DESCRIPTORS) -> Self:
        """Listen on an address; raises CannotListenError for one that is unknown, not local or in use."""
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            family, _, _, _, address = found[0]
            both = host == "::" and socket.has_dualstack_ipv6()
            return cls(socket.create_server(address, family=family, backlog=BACKLOG, dualstack_ipv6=both), spare)
        except (OSError, ValueError) as error:  # an invalid host name raises ValueError
            reason = error.strerror if isinstance(error, OSError) else str(error)
            reason = str(reason).partition(" (while attempting to bind")[0]  # Python adds the address
            raise CannotListenError(f"{host}:{port}: {reason}; choose another --host or {flag}") from error

    @classmethod
    def open_unix(cls, path: str) -> Self:
        """Listen on a Unix domain socket at a path, replacing the stale socket of a killed process.

        Raises CannotListenError for a path in use, or one that cannot be a socket.
        """
        listening = socket.socket(socket.AF_UNIX)
        try:
            if Path(path).is_socket():
                with socket.socket(socket.AF_UNIX) as client, suppress(ConnectionRefusedError):
                    client.setblocking(False)
                    with suppress(BlockingIOError):  # its backlog is full
                        client.connect(path)
                    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
                Path(path).unlink()
            listening.bind(path)
            listening.listen(BACKLOG)
        except OSError as error:
            listening.close()
            reason = error.strerror or str(error)
            raise CannotListenError(f"{path}: {reason}; choose another --uds") from error
        listener = cls(listening)
        listener._path = (path, Path(path).stat().st_ino)
        return listener

    def url(self, scheme: str) -> str:
        """Format the address as a URL, or as `unix:` and its path."""
        if self._path is not None:
            return f"unix:{self._path[0]}"
        host, port = self.socket.getsockname()[:2]
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    def accept(self) -> socket.socket | None:
        """Accept a connection; None if no client waits, or if no descriptor is left, which begins a pause."""
        if not self._descriptors.left(self.socket.fileno()):
            return None
        try:
            connection, _ = self.socket.accept()
        except OSError as error:  # no client waits, or it has left
            if error.errno in EXHAUSTED:
                self._descriptors.ran_out()
            return None
        with suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def take(self) -> list[socket.socket]:
        """Accept up to a batch of the waiting connections."""
        taken: list[socket.socket] = []
        while len(taken) < BATCH and (connection := self.accept()):
            taken.append(connection)
        return taken

    def close(self) -> None:
        """Close the socket, and remove a Unix domain socket from its directory."""
        self.socket.close()
        if self._path is not None:
            path, inode = self._path
            with suppress(OSError):
                if Path(path).stat().st_ino == inode:  # only the socket of this process
                    Path(path).unlink()
            self._path = None
