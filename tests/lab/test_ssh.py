"""`up --hosts` and `down --hosts`, over a real sshd on each of three hosts."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hosts import HOME, ROOT, Host, Lab, missing, wait_until

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
SECRET = "planted-for-the-hosts-alone"
PATIENCE = 600  # seconds for what takes some on an idle machine
pytestmark = [
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
    pytest.mark.skipif(SSHD is None, reason="needs sshd (apt install openssh-server)"),
    pytest.mark.timeout(1800),
]


class Site:
    """A client that may log in to a head and a worker."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.client = lab, lab.hosts["client"]
        self.nodes = [lab.hosts["head"], lab.hosts["worker"]]
        ssh = self.client.home / ".ssh"
        ssh.mkdir(mode=0o700)
        keygen(ssh / "id")
        known = [f"{host.address} {serve(host, ssh / 'id.pub')}" for host in self.nodes]
        (ssh / "known").write_text("\n".join(known) + "\n")
        config = [
            f"IdentityFile {HOME}/.ssh/id",
            "IdentitiesOnly yes",
            f"UserKnownHostsFile {HOME}/.ssh/known",
            "StrictHostKeyChecking yes",
        ]
        (ssh / "config").write_text("\n".join(config) + "\n")
        self.inventory = {
            "head": self.nodes[0].address,
            "workers": [{"address": self.nodes[1].address, "cpus": 1}],
            "user": "root",
            "python": sys.executable,
            "ssh_config": f"{HOME}/.ssh/config",
            "environment": {"AWS_SECRET_ACCESS_KEY": "${PLANTED}"},
        }
        self.write()

    def write(self) -> None:
        (self.client.home / "inventory.yaml").write_text(json.dumps(self.inventory))

    def diffsweep(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = (sys.executable, "-m", "cluster.cli", *arguments)
        return self.client.run(*command, PYTHONPATH=str(ROOT), PLANTED=SECRET)

    def say(self, *arguments: str) -> str:
        done = self.diffsweep(*arguments)
        logs = [host.home / ".diffsweep" / "log" for host in self.nodes]
        tails = [path.read_text()[-3000:] for path in logs if path.exists()]
        assert done.returncode == 0, "\n".join([done.stdout, done.stderr, *tails])
        return done.stdout

    def count(self) -> int | None:
        found = json.loads(self.say("status", "-o", "json"))["cluster"].get("nodes")
        return int(found) if found is not None else None


def keygen(path: Any) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)


def serve(host: Host, allowed: Any) -> str:
    """Let this key in to a host; the host's own public key."""
    (host.disk / "sshd").mkdir()
    keygen(host.disk / "sshd" / "key")
    shutil.copy(allowed, host.disk / "sshd" / "allowed")
    config = [
        f"ListenAddress {host.address}",
        "HostKey /tmp/sshd/key",
        "AuthorizedKeysFile /tmp/sshd/allowed",
        "StrictModes no",  # /tmp is for all
        "PasswordAuthentication no",
        "PermitRootLogin prohibit-password",
        "PidFile none",
        f"SetEnv HOME={HOME}",  # this host's, and not the one that they all see
    ]
    (host.disk / "sshd" / "config").write_text("\n".join(config) + "\n")
    host.run("mkdir", "-p", "/run/sshd")
    host.start(str(SSHD), "-D", "-e", "-f", "/tmp/sshd/config")
    return (host.disk / "sshd" / "key.pub").read_text().strip()


def until(look: Callable[[], Any], condition: Callable[[Any], Any]) -> Any:
    return wait_until(look, condition, PATIENCE)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    lab = Lab(tmp_path_factory.mktemp("ssh"), ["client", "head", "worker"])
    yield Site(lab)
    lab.down()


def test_a_cluster_comes_up_mends_itself_and_goes_down(site: Site) -> None:
    head, worker = site.nodes
    site.say("up", "--hosts", "inventory.yaml")
    assert site.count() == 2
    status = json.loads(site.say("status", "-o", "json"))["cluster"]
    assert status["cpus"] == {"free": 1.0, "of": 1.0}  # the worker's, none of the head

    for host in site.nodes:
        folder = host.home / ".diffsweep"
        assert folder.stat().st_mode & 0o077 == 0
        assert (folder / "token").stat().st_mode & 0o077 == 0
        assert SECRET in (folder / "environment").read_text()
        token = (folder / "token").read_text().strip()
        for process in host.processes(""):
            line = " ".join(process.cmdline())
            assert SECRET not in line
            assert token not in line
    wrong = site.client.run(
        *(sys.executable, "-m", "cluster.cli", "status"),
        PYTHONPATH=str(ROOT),
        RAY_ADDRESS=f"http://{head.address}:8265",
        RAY_AUTH_TOKEN="0" * 64,
        DIFFSWEEP_HOME="/tmp/elsewhere",
    )
    assert "refuses this token" in wrong.stdout + wrong.stderr

    before = {process.pid for host in site.nodes for process in host.processes("raylet/raylet ")}
    site.say("up", "--hosts", "inventory.yaml")  # changes nothing
    after = {process.pid for host in site.nodes for process in host.processes("raylet/raylet ")}
    assert after == before

    (raylet,) = worker.processes("raylet/raylet ")
    raylet.kill()
    until(lambda: worker.processes("raylet/raylet "), lambda found: found and found[0] != raylet)
    until(site.count, lambda found: found == 2)

    refused = site.diffsweep("up")
    assert refused.returncode == 2
    assert "down --hosts" in refused.stderr
    site.say("down", "--hosts", "inventory.yaml")
    for host in site.nodes:
        assert [process for process in host.processes("ray") if "sshd" not in process.name()] == []
        assert not (host.home / ".diffsweep" / "token").exists()
    assert "none" in site.say("status")


def test_hosts_that_cant_be_reached_are_named_and_nothing_begins(site: Site) -> None:
    known = dict(site.inventory)
    site.inventory["workers"] = [site.nodes[1].address, "10.78.0.99", "10.78.0.98"]
    site.write()
    done = site.diffsweep("up", "--hosts", "inventory.yaml")
    site.inventory.update(known)
    site.write()
    assert done.returncode == 2
    first, second = done.stderr.strip().splitlines()
    assert first.startswith("10.78.0.99: ssh: connect to host 10.78.0.99 port 22:")
    assert second.startswith("10.78.0.98: ")
    assert not any(host.processes("ray.scripts") for host in site.nodes)
