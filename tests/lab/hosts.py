"""Several hosts on one machine: each has its own network, processes, host name, /tmp and /dev/shm.

Their switch is in a network namespace of its own, so no packet reaches the real network. What is
under a host's /tmp, with its home, is its disk: it outlives a power cut. The rest of the file
system is shared, as programs are that are installed everywhere.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from support.paths import ROOT

PROGRAMS = (ROOT, Path(sys.prefix))  # are seen on every host, wherever they lie
HOME = "/tmp/home"  # on every host
# the first process of a host: whatever loses its parent is left to it
INIT = """
import os, time
while True:
    try:
        os.waitpid(-1, 0)
    except ChildProcessError:
        time.sleep(0.2)
"""
PATIENCE = 120  # seconds for a host to boot on a busy machine


def missing() -> str | None:
    """Why there can be no hosts here, if there can't."""
    if os.geteuid() != 0:
        return "needs root"
    tools = [name for name in ("ip", "unshare", "nsenter") if shutil.which(name) is None]
    if tools:
        return f"needs {', '.join(tools)} (apt install iproute2 util-linux)"
    refused = subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True)
    return f"may not make namespaces: {refused.stderr.decode()}" if refused.returncode else None


def ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"


class Host:
    """One host. Cut its power, boot it again, pull its network cable and plug it in."""

    def __init__(self, lab: Lab, name: str, address: str) -> None:
        self.lab, self.name, self.address = lab, name, address
        self.namespace, self.link = lab.namespace(name), f"v-{name}"
        self.disk = lab.folder / name  # its /tmp
        self.init: psutil.Process | None = None
        self._outer: subprocess.Popen[bytes] | None = None
        self._started: list[subprocess.Popen[bytes]] = []
        ip("netns", "add", self.namespace)
        ends = ("netns", lab.switch, "type", "veth", "peer", "name", "eth0", "netns")
        ip("link", "add", self.link, *ends, self.namespace)
        ip("-n", lab.switch, "link", "set", self.link, "master", "br0", "up")
        ip("-n", self.namespace, "addr", "add", f"{address}/24", "dev", "eth0")
        for device in ("eth0", "lo"):
            ip("-n", self.namespace, "link", "set", device, "up")

    @property
    def home(self) -> Path:
        """Its home, as seen from outside."""
        return self.disk / "home"

    @property
    def on(self) -> bool:
        return self.init is not None and self.init.is_running()

    def boot(self) -> None:
        """Switch the power on; the disk is as it was."""
        self.heal_link()
        self.home.mkdir(parents=True, exist_ok=True)
        self.disk.chmod(0o1777)
        shared = [path for path in PROGRAMS if path.is_relative_to("/tmp")]
        steps = [f"hostname {self.name}", "mount -t tmpfs tmpfs /dev/shm"]
        for path in shared:  # before /tmp is covered
            target = self.disk / path.relative_to("/tmp")
            target.mkdir(parents=True, exist_ok=True)
            steps.append(f"mount --bind {path} {target}")
        steps += [f"mount --rbind {self.disk} /tmp", "cd /", f"exec {sys.executable} -c '{INIT}'"]
        inside = ("unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--mount-proc")
        with (self.disk / "log").open("ab") as log:
            self._outer = subprocess.Popen(
                ["ip", "netns", "exec", self.namespace, *inside, "sh", "-ec", " && ".join(steps)],
                stdout=log,
                stderr=log,
            )
        self.init = self._first_process(self._outer)

    def _first_process(self, outer: subprocess.Popen[bytes]) -> psutil.Process:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and outer.poll() is None:
            for child in psutil.Process(outer.pid).children():
                if child.cmdline()[:1] == [sys.executable]:
                    return child
            time.sleep(0.05)
        raise RuntimeError(f"{self.name} does not boot: {(self.disk / 'log').read_text()[-500:]}")

    def command(self, *command: str, **environment: str) -> list[str]:
        """A command as this host runs it, with no more of an environment than is given."""
        assert self.init is not None
        inside = ["nsenter", "-t", str(self.init.pid), "-m", "-u", "-i", "-n", "-p"]
        path = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
        given = {"HOME": HOME, "PATH": path, "LANG": "C.UTF-8", **environment}
        settings = [f"{key}={value}" for key, value in given.items()]
        return [*inside, "--", "env", "-i", "-C", HOME, *settings, *command]

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        whole = self.command(*command, **environment)
        return subprocess.run(whole, capture_output=True, text=True, timeout=900)

    def start(self, *command: str, **environment: str) -> None:
        """Leave a command running; what it says goes to `log` on the host's disk."""
        with (self.disk / "log").open("ab") as log:
            process = subprocess.Popen(
                self.command(*command, **environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._started.append(process)

    def processes(self, words: str) -> list[psutil.Process]:
        """Its processes whose command line holds these words."""
        assert self.init is not None
        space = os.readlink(f"/proc/{self.init.pid}/ns/pid")
        found = []
        for process in psutil.process_iter():
            try:
                mine = os.readlink(f"/proc/{process.pid}/ns/pid") == space
                if mine and words in " ".join(process.cmdline()):
                    found.append(process)
            except (psutil.Error, OSError):  # it has ended
                continue
        return found

    def cut_power(self) -> None:
        """End everything on it at once: the kernel does, when the first process is killed.

        Nobody is told: what the kernel would say to the others at the end does not leave.
        """
        assert self.init is not None and self._outer is not None
        self.cut_link()
        self.init.kill()
        for process in (self._outer, *self._started):
            process.wait()
        self.init, self._started = None, []

    def cut_link(self) -> None:
        """Nothing arrives or leaves any more, and nobody is told."""
        ip("-n", self.lab.switch, "link", "set", self.link, "down")

    def heal_link(self) -> None:
        ip("-n", self.lab.switch, "link", "set", self.link, "up")

    def new_disk(self) -> None:
        """As if another machine took its place, at the same address."""
        assert not self.on
        shutil.rmtree(self.disk)


class Lab:
    """A switch, and the hosts on it, with their power on."""

    def __init__(self, folder: Path, names: list[str]) -> None:
        self.folder = folder
        self.hosts: dict[str, Host] = {}
        self.switch = self.namespace("switch")
        ip("netns", "add", self.switch)
        ip("-n", self.switch, "link", "add", "br0", "type", "bridge")
        for device in ("br0", "lo"):
            ip("-n", self.switch, "link", "set", device, "up")
        for number, name in enumerate(names, start=1):
            self.hosts[name] = Host(self, name, f"10.78.0.{number}")
            self.hosts[name].boot()

    def namespace(self, name: str) -> str:
        return f"dsw{os.getpid()}-{name}"

    def down(self) -> None:
        for host in self.hosts.values():
            if host.on:
                host.cut_power()
        for name in ("switch", *self.hosts):
            ip("netns", "del", self.namespace(name))


def wait_until(look: Callable[[], Any], condition: Callable[[Any], Any], patience: float) -> Any:
    """What is seen once it is as wanted, looked at every second; `patience` in seconds."""
    deadline = time.monotonic() + patience
    while not condition(found := look()):
        assert time.monotonic() < deadline, f"waited too long, at {found}"
        time.sleep(1)
    return found
