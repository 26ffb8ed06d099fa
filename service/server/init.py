"""The first process of a container, which inherits its orphaned processes."""

import os
import signal
from collections.abc import Callable
from typing import Final

PASSED_ON: Final = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


def run_first(serve: Callable[[], int]) -> int:
    """Serve in a child process, forward signals to it, reap orphans, and return the child's exit status.

    Unreaped processes, such as health checks whose parent has ended, would add up until no more can be started.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {*PASSED_ON, signal.SIGCHLD})
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)  # a terminal signals only the parent's group, and the parent forwards it
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        return serve()
    while True:
        received = signal.sigwait({*PASSED_ON, signal.SIGCHLD})
        if received != signal.SIGCHLD:
            os.kill(child, received)
            continue
        ended = -1
        while ended:
            ended, status = os.waitpid(-1, os.WNOHANG)
            if ended == child:
                exit_code = os.waitstatus_to_exitcode(status)
                return exit_code if exit_code >= 0 else 128 - exit_code
