"""slurm.sh on a real Slurm: munged, slurmctld and slurmd in namespaces of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.paths import ROOT

NEEDED = ("slurmctld", "slurmd", "sbatch", "munged", "unshare")
PATH = f"{Path(sys.executable).parent}:/usr/sbin:{os.environ['PATH']}"
MISSING = [name for name in NEEDED if shutil.which(name, path=PATH) is None]

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root"),
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
    pytest.mark.timeout(1200),
]

CONF = """
ClusterName=lab
SlurmctldHost=node1(10.78.0.1)
AuthInfo=socket={folder}/munge.socket
SlurmUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
NodeName=node1 NodeAddr=10.78.0.1 CPUs=2 State=UNKNOWN
PartitionName=main Nodes=node1 Default=YES MaxTime=INFINITE State=UP
"""

# Everything ends with the process that is first in these namespaces. No packet leaves them.
HOST = """
set -e
hostname node1
mount -t tmpfs tmpfs /sys/fs/cgroup
mount -t tmpfs -o size=1g tmpfs /dev/shm
mkdir ray && mkdir -p /tmp/ray && mount --bind ray /tmp/ray
ip link set lo up
ip link add eth0 type veth peer name eth1
ip addr add 10.78.0.1/24 dev eth0 && ip link set eth0 up && ip link set eth1 up
ip route add default dev eth0
head -c 64 /dev/urandom > munge.key && chmod 600 munge.key
munged --force --key-file=$PWD/munge.key --socket=$PWD/munge.socket \\
  --pid-file=$PWD/munged.pid --log-file=$PWD/munged.log --seed-file=$PWD/munge.seed
slurmctld
slurmd
timeout 120 sh -c 'until sinfo -h -o %T | grep -q idle; do sleep 1; done'
status=0
sbatch --wait --nodes=1 --cpus-per-task=2 --time=20 --output=job.out "$@" || status=$?
exit $status
"""

SPEC = """
name: tiny
trial:
  dataset: {type: points, shape: moons, examples: 400}
  model: {type: mlp, width: 16, depth: 1}
  batch_size: 16
  steps: 20
  report_every: 10
space: {optimizer: {adam: {}, sgd: {}}}
budget: {trials: 4}
"""


def test_a_search_runs_to_its_end_in_an_allocation(tmp_path: Path) -> None:
    folder = tmp_path / "lab"
    for name in ("state", "spool", "home"):
        (folder / name).mkdir(parents=True)
    (folder / "slurm.conf").write_text(CONF.format(folder=folder))
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n")
    (folder / "spec.yaml").write_text(SPEC)
    host = ["unshare", *(f"--{kind}" for kind in ("net", "mount", "uts", "ipc", "pid"))]
    host += ["--fork", "--mount-proc", "--kill-child", "bash", "-c", HOST, "host"]
    done = subprocess.run(
        [*host, str(ROOT / "cluster" / "slurm.sh"), "submit", "spec.yaml"],
        cwd=folder,
        env={
            "PATH": PATH,
            "PYTHONPATH": str(ROOT),
            "HOME": str(folder / "home"),
            "SLURM_CONF": str(folder / "slurm.conf"),
        },
        capture_output=True,
        text=True,
    )
    output = (folder / "job.out").read_text() if (folder / "job.out").exists() else done.stderr
    assert done.returncode == 0, output
    assert "complete" in output
    runs = folder / "runs"
    assert (runs / "auth_token").stat().st_mode & 0o777 == 0o600
    assert (runs / "auth_token").read_text().strip() not in output
    report = json.loads(next(runs.rglob("report.json")).read_text())
    assert sum(row["trials"] for row in report["optimizers"].values()) == 4
