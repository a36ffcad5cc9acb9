"""Several hosts on one machine: each has its own network, processes, host name and shared memory.

Their switch is in a network namespace of its own, so no packet reaches the real network. The file
system is one, but for /tmp/ray and /dev/shm. To kill a host's first process is to cut its power.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil

PREFIX = "dswl"
INIT = """
import os, time
while True:
    try:
        os.waitpid(-1, 0)
    except ChildProcessError:
        time.sleep(0.2)
"""


def missing() -> str | None:
    """Why there can be no hosts here, if there can't."""
    if os.geteuid() != 0:
        return "needs root"
    tools = [name for name in ("ip", "unshare", "nsenter") if shutil.which(name) is None]
    return f"needs {', '.join(tools)}" if tools else None


def call(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


class Host:
    """One host, with its power on."""

    def __init__(self, name: str, ip: str, folder: Path) -> None:
        self.name, self.ip, self.folder = name, ip, folder
        self.processes: list[subprocess.Popen[bytes]] = []
        self.namespace, link = f"{PREFIX}-{name}", f"v-{name}"
        for part in ("ray", "home"):
            (folder / part).mkdir(parents=True)
        call("ip", "netns", "add", self.namespace)
        switch = f"{PREFIX}-switch"
        call(
            "ip",
            "link",
            "add",
            link,
            "netns",
            switch,
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            self.namespace,
        )
        call("ip", "-n", switch, "link", "set", link, "master", "br0", "up")
        call("ip", "-n", self.namespace, "addr", "add", f"{ip}/24", "dev", "eth0")
        for device in ("eth0", "lo"):
            call("ip", "-n", self.namespace, "link", "set", device, "up")
        mounts = (
            f"hostname {name} && mkdir -p /tmp/ray && mount --bind {folder / 'ray'} /tmp/ray && "
            f"mount -t tmpfs tmpfs /dev/shm && exec {sys.executable} -c '{INIT}'"
        )
        inside = ("unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--mount-proc")
        self.outer = subprocess.Popen(
            ["ip", "netns", "exec", self.namespace, *inside, "sh", "-c", mounts]
        )
        self.init = self._first_process()

    def _first_process(self) -> psutil.Process:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for child in psutil.Process(self.outer.pid).children():
                if INIT.strip() in " ".join(child.cmdline()):
                    return child
            time.sleep(0.1)
        raise TimeoutError(f"{self.name} does not boot")

    def command(self, *command: str, **environment: str) -> list[str]:
        """A command as this host runs it, with no more of an environment than is given."""
        inside = ["nsenter", "-t", str(self.init.pid), "-m", "-u", "-i", "-n", "-p"]
        path = f"{Path(sys.executable).parent}:/usr/bin:/bin:/usr/sbin:/sbin"
        given = {"HOME": str(self.folder / "home"), "PATH": path, **environment}
        settings = [f"{key}={value}" for key, value in given.items()]
        return [*inside, "--wd=/", "--", "env", "-i", *settings, *command]

    def start(self, *command: str, **environment: str) -> None:
        """Leave a command running; what it says goes to the host's log."""
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                self.command(*command, **environment),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        self.processes.append(process)

    def cut_power(self) -> None:
        """End everything on it at once."""
        self.init.kill()
        for process in (self.outer, *self.processes):
            process.wait()


class Lab:
    """A switch with hosts on it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.hosts = folder, {}
        switch = f"{PREFIX}-switch"
        call("ip", "netns", "add", switch)
        call("ip", "-n", switch, "link", "add", "br0", "type", "bridge")
        for device in ("br0", "lo"):
            call("ip", "-n", switch, "link", "set", device, "up")

    def host(self, name: str) -> Host:
        ip = f"10.78.0.{len(self.hosts) + 1}"
        self.hosts[name] = Host(name, ip, self.folder / name)
        return self.hosts[name]

    def down(self) -> None:
        for host in self.hosts.values():
            if host.init.is_running():
                host.cut_power()
        for name in ("switch", *self.hosts):
            call("ip", "netns", "del", f"{PREFIX}-{name}")
