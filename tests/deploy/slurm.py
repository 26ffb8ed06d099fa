"""A real Slurm of one node on this machine, with all its files in one folder."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.live import wait_until

PROGRAMS = ("munged", "mungekey", "slurmctld", "slurmd", "sbatch", "scancel", "scontrol", "squeue", "sinfo")
TIMEOUT_S = 120.0
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0
ReturnToService=2
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=4096 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def require_slurm() -> None:
    """Skip the test where there is no Slurm, or not the right to run it."""
    if missing := [program for program in PROGRAMS if _find(program) is None]:
        pytest.skip(f"no {', '.join(missing)}; on Debian: apt-get install slurm-wlm munge")
    if os.geteuid():
        pytest.skip("not root, as slurmd and its controller have to be here")


class Slurm:
    """Commands of a running Slurm; jobs run in a folder, with programs of another folder first on the path."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        self._environment = {
            **os.environ,
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{programs}:{os.environ['PATH']}",
        }

    def run(self, *command: object, **variables: str) -> str:
        """Run a command of Slurm and return what it prints."""
        environment, arguments = {**self._environment, **variables}, [str(one) for one in command]
        done = subprocess.run(
            arguments, env=environment, cwd=self.folder, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
        )
        assert done.returncode == 0, f"{arguments}: {done.stderr}"
        return done.stdout.strip()

    def wait(self) -> None:
        """Wait until there is no job any more."""
        wait_until(lambda: not self.run("squeue", "--noheader"), TIMEOUT_S)


@contextmanager
def slurm(folder: Path, programs: Path) -> Iterator[Slurm]:
    """Have Slurm, and its authentication, for the length of the context."""
    with ExitStack() as stack:
        _start_munge(stack, folder)
        for name in ("state", "spool"):
            (folder / name).mkdir()
        settings = {"host": socket.gethostname().partition(".")[0], "folder": folder, "cores": os.cpu_count()}
        ports = {"controller_port": _free_port(), "node_port": _free_port()}
        (folder / "slurm.conf").write_text(CONFIGURATION.format(**settings, **ports))
        system = Slurm(folder, programs)
        for daemon in ("slurmctld", "slurmd"):
            _start(stack, folder, daemon, "-D", "-f", folder / "slurm.conf")
        wait_until(lambda: "idle" in system.run("sinfo", "--noheader", "--format=%T"), TIMEOUT_S)
        yield system


def _start_munge(stack: ExitStack, folder: Path) -> None:
    key, socket_file = folder / "munge.key", folder / "munge.socket"
    subprocess.run([str(_find("mungekey")), "--create", f"--keyfile={key}"], check=True)
    files = [f"--{name}-file={folder}/munge.{name}" for name in ("pid", "log", "seed")]
    _start(stack, folder, "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={socket_file}", *files)
    wait_until(socket_file.exists, TIMEOUT_S)


def _start(stack: ExitStack, folder: Path, program: str, *arguments: object) -> None:
    """Start a daemon whose output goes into a file, and end it with the context."""
    with (folder / f"{program}.log").open("w") as log:
        command = [str(_find(program)), *map(str, arguments)]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    stack.callback(process.wait, TIMEOUT_S)
    stack.callback(process.terminate)


def _find(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
