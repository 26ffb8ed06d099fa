"""Jobs of batch systems score the shards of many files, and a last one completes them: Slurm really, HTCondor in part.

HTCondor's own parser makes the commands of its jobs, and they are run; its daemons are not to be had.
"""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.slurm import Slurm, require_slurm, slurm
from tests.training import samples
from tests.training.jobs.engines.clusters import PYTHON, require_engines
from training.files import sha256_of
from training.jobs.scored_folder import MANIFEST

pytestmark = [pytest.mark.process, pytest.mark.slow]

DEPLOY = Path(__file__).parents[2] / "deploy"
SHARDS = 4
N_FILES = 10
PARSE = """
import sys, htcondor2
text, *macros = sys.argv[1:]
submit = htcondor2.Submit("\\n".join([*macros, text]))
assert submit.getQArgs() == "$(shards)"
arguments = submit["arguments"]
for number in range(int(submit.expand("shards"))):
    submit["arguments"] = arguments.replace("$(Process)", str(number))
    print(submit.expand("executable"), submit.expand("arguments"))
"""


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write some files of different events."""
    folder = tmp_path_factory.mktemp("events")
    for index in range(N_FILES):
        samples.written(folder / f"{index:02}.h5", samples.background(100 + index, index))
    return folder


@pytest.fixture(scope="module")
def expected(events: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Score all files by one process, and give the digests of the outputs."""
    out = tmp_path_factory.mktemp("expected")
    subprocess.run([sys.executable, "-m", "training", "score", f"{events}/*.h5", "--out", f"{out}/"], check=True)
    return digests(out)


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each output."""
    return {path.name: sha256_of(path) for path in folder.glob("*.parquet")}


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """Give a folder with a script `lhc-anomaly` that runs this code."""
    folder = tmp_path / "programs"
    folder.mkdir()
    script = folder / "lhc-anomaly"
    root = shlex.quote(str(DEPLOY.parent))
    script.write_text(f'#!/bin/sh\nPYTHONPATH={root} exec {shlex.quote(sys.executable)} -m training "$@"\n')
    script.chmod(0o755)
    return folder


def test_slurm_scores_the_shards_of_an_array(
    events: Path, expected: dict[str, str], tmp_path: Path, programs: Path
) -> None:
    """Of an array of four one job is cancelled: the last job fails and says so, until that one is submitted again."""
    require_slurm()
    script = (DEPLOY / "slurm" / "score.sbatch", f"{events}/*.h5", "--out", "scored/")

    def submit(system: Slurm, *options: str) -> str:
        return system.run("sbatch", "--parsable", *options, *script, SHARDS=str(SHARDS))

    def finish(system: Slurm, after: str) -> tuple[str, str]:
        """Give the state of the last job and what it wrote."""
        job = submit(system, f"--dependency=afterany:{after}")
        system.wait()
        state = system.run("squeue", "--noheader", "--states=all", f"--job={job}", "--format=%T")
        return state, (system.folder / f"lhc-anomaly-{job}.log").read_text()

    with slurm(tmp_path, programs) as system:
        array = submit(system, f"--array=0-{SHARDS - 1}", "--hold")
        system.run("scancel", f"{array}_2")
        system.run("scontrol", "release", array)
        state, log = finish(system, array)
        assert state == "FAILED", log
        assert [line for line in log.splitlines() if line.endswith(": not scored yet")] == [
            f"{events}/{index:02}.h5: not scored yet" for index in range(2, N_FILES, SHARDS)
        ]
        state, log = finish(system, submit(system, "--array=2"))
        assert state == "COMPLETED", log
        assert f"{N_FILES} of {N_FILES} files scored" in log
    assert digests(tmp_path / "scored") == expected
    assert json.loads((tmp_path / "scored" / MANIFEST).read_text())["scored"] == N_FILES


def test_htcondor_makes_a_job_of_each_shard(
    events: Path, expected: dict[str, str], tmp_path: Path, programs: Path
) -> None:
    """The commands that HTCondor would run, in another order, and the last command score all files."""
    require_engines()
    macros = [f"files={events}/*.h5", "out=scored", f"shards={SHARDS}"]
    text = (DEPLOY / "htcondor" / "score.sub").read_text()
    parsed = subprocess.run([PYTHON, "-c", PARSE, text, *macros], capture_output=True, text=True, check=False)
    assert parsed.returncode == 0, parsed.stderr
    jobs = [shlex.split(line) for line in parsed.stdout.splitlines()]
    assert len(jobs) == SHARDS
    environment = {"PATH": f"{programs}:/usr/bin:/bin"}
    finish = ["lhc-anomaly", "score", f"{events}/*.h5", "--out", "scored", "--finish"]
    for job in (*reversed(jobs), finish):
        subprocess.run(job, env=environment, cwd=tmp_path, check=True)
    assert digests(tmp_path / "scored") == expected
