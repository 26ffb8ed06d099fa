"""The container image without a container engine: built by deploy/image/build.sh, and run as one would run it."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks.targets.launcher import starting
from tests.live import LiveService

ROOT: Final = Path(__file__).parents[2]
STORE: Final = ROOT / "build" / "image"
IMAGE: Final = "localhost/lhc-anomaly"

RUN: Final = """
mount --bind "$0" "$0" && mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && mount -o remount,bind,ro "$0"
user=$1; shift
exec setpriv --no-new-privs chroot --userspec="$user:$user" --groups= "$0" env --ignore-environment "$@"
"""
"""Runs a command as a user who can gain no rights, on a root that cannot be written to."""


def build() -> str:
    """Build the image, and give what the script says of its size."""
    done = subprocess.run([ROOT / "deploy" / "image" / "build.sh"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout.splitlines()[-1]


def buildah(*arguments: str) -> str:
    """Ask buildah about the images of the script."""
    store = ["--root", str(STORE / "storage"), "--runroot", str(STORE / "run"), "--storage-driver", "overlay"]
    return subprocess.run(["buildah", *store, *arguments], check=True, capture_output=True, text=True).stdout.strip()


class Container:
    """The image's files in a folder, and what the image says of how it is to be run."""

    def __init__(self, root: Path, config: dict[str, Any]) -> None:
        self.root = root
        self.config = config

    def command(self, *command: str, env: Mapping[str, str] | None = None) -> list[str]:
        """Write the command that runs another in namespaces of its own, as process 1 and as the image's user."""
        variables = [*self.config["Env"], *(f"{name}={value}" for name, value in (env or {}).items())]
        inside = [f"--chdir={self.config['WorkingDir']}", *variables, *command]
        spaces = ["unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child"]
        return [*spaces, "sh", "-euc", RUN, str(self.root), self.config["User"], *inside]

    def run(self, *command: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(self.command(*command, env=env), capture_output=True, text=True, check=False, timeout=60)

    @contextmanager
    def serving(self, env: Mapping[str, str]) -> Iterator["RunningContainer"]:
        """Run the image's own command until the end of the block, ready at its start."""
        with starting(self.command(*self.config["Entrypoint"], env=env)) as server:
            running = RunningContainer(server.process, server.log)
            try:
                running.base_url = running.wait_for("ready")["url"]
                yield running
            finally:
                if running.process.poll() is None:
                    running.signal(signal.SIGKILL)


class RunningContainer(LiveService):
    """A running container."""

    def signal(self, sig: signal.Signals) -> None:
        """Send a signal to process 1 of the container: the one that waits for it outside ignores SIGTERM."""
        os.kill(self.processes()[1], sig)


@contextmanager
def unpacked() -> Iterator[Container]:
    """Lay the image's files into a folder until the end of the block."""
    name = buildah("from", "--pull-never", IMAGE)
    try:
        config = json.loads(buildah("inspect", "--type", "image", IMAGE))["OCIv1"]["config"]
        yield Container(Path(buildah("mount", name)), config)
    finally:
        buildah("rm", name)
