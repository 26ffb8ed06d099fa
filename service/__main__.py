"""The command `python -m service`: reads the settings and serves.

It does not know what serving takes.
"""

import os
import signal
import sys
from collections.abc import Sequence

from service.settings import parse_settings


def main(argv: Sequence[str] | None = None) -> int:
    """Serve with the settings of `argv` and the environment; gives the exit status."""
    # They wait until the server takes them, so that none falls in the middle of an import.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    settings = parse_settings(sys.argv[1:] if argv is None else argv, os.environ)
    # After the settings, so that --help and a wrong flag are answered at once.
    from service.server.startup import run

    return run(settings)


if __name__ == "__main__":
    sys.exit(main())
