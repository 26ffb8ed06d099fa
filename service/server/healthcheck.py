"""The health check of a container: `python -m service.server.healthcheck`.

It reads the settings as the service does, and exits with 0 where /health is 200. It does not know how the service
answers, nor who it is: a certificate is for the clients to judge.
"""

import http.client
import os
import ssl
import sys
from collections.abc import Sequence

from service.settings import Settings, parse_settings

TIMEOUT_S = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Ask the service that has the settings of `argv` and the environment; gives the exit status."""
    settings = parse_settings(sys.argv[1:] if argv is None else argv, os.environ)
    try:
        status = health_status(settings)
    except (OSError, http.client.HTTPException) as error:
        print(f"no answer from {settings.host}:{settings.ops_port or settings.port}: {error}", file=sys.stderr)
        return 1
    if status != http.HTTPStatus.OK:
        print(f"/health is {status}, expected 200", file=sys.stderr)
        return 1
    return 0


def health_status(settings: Settings) -> int:
    """Ask for /health, on the operations port where there is one; raises OSError or HTTPException without an answer."""
    # Not urllib, which would ask a proxy of the environment's.
    if settings.ops_port is None and settings.tls_certificate:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            settings.host, settings.port, timeout=TIMEOUT_S, context=context
        )
    else:
        connection = http.client.HTTPConnection(settings.host, settings.ops_port or settings.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
