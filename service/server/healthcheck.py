"""The health check: one request to the running service, with nothing imported that serving needs."""

import http.client
import ssl

from service.settings import Settings

TIMEOUT_S = 2


class UnhealthyError(Exception):
    """The service does not take requests; the message says how it responded."""


def check_health(settings: Settings) -> None:
    """Ask for /health, on the operations port where there is one; raises UnhealthyError for anything but a 200."""
    # http.client rather than urllib, which would use a proxy of the environment.
    connection: http.client.HTTPConnection
    if settings.ops_port is None and settings.tls_certificate:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # its certificate may be for another name
        connection = http.client.HTTPSConnection(settings.host, settings.port, timeout=TIMEOUT_S, context=context)
    else:
        host = settings.host if settings.ops_port is None else settings.ops_host or settings.host
        connection = http.client.HTTPConnection(host, settings.ops_port or settings.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/health")
        status = connection.getresponse().status
    except (OSError, ValueError, http.client.HTTPException) as error:  # a host that is no name is a ValueError
        raise UnhealthyError(f"no response from {connection.host}:{connection.port}: {error}") from error
    finally:
        connection.close()
    if status != http.HTTPStatus.OK:
        raise UnhealthyError(f"/health is {status}, expected 200")
