"""The health check: one request to the running service, without the imports of serving."""

import http.client
import socket
import ssl

from service.settings import Settings

TIMEOUT_S = 2


class UnhealthyError(Exception):
    """The service does not take requests; the message has its response."""


def check_health(settings: Settings) -> None:
    """Request /health, on the operations port if there is one; raises UnhealthyError for anything but a 200."""
    # http.client rather than urllib, which would use a proxy of the environment.
    connection: http.client.HTTPConnection
    context = None
    if settings.ops_port is None and settings.tls_certificate:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # its certificate may be for another name
        connection = http.client.HTTPSConnection(settings.host, settings.port, timeout=TIMEOUT_S, context=context)
    else:
        host = settings.host if settings.ops_port is None else settings.ops_host or settings.host
        connection = http.client.HTTPConnection(host, settings.ops_port or settings.port, timeout=TIMEOUT_S)
    try:
        if settings.ops_port is None and settings.uds is not None:
            client = socket.socket(socket.AF_UNIX)
            client.settimeout(TIMEOUT_S)
            client.connect(settings.uds)
            connection.sock = client if context is None else context.wrap_socket(client)
        connection.request("GET", "/health")
        status = connection.getresponse().status
    except (OSError, ValueError, http.client.HTTPException) as error:  # an invalid host name raises ValueError
        address = f"{connection.host}:{connection.port}"
        if settings.ops_port is None and settings.uds is not None:
            address = settings.uds
        raise UnhealthyError(f"no response from {address}: {error}") from error
    finally:
        connection.close()
    if status != http.HTTPStatus.OK:
        raise UnhealthyError(f"/health is {status}, expected 200")
