"""The Dockerfile built for real, on a Debian made by debootstrap under the base image's name.

pip gets its packages as on this machine: a folder of wheels in PIP_FIND_LINKS is bound into the
build, where it may hold a CPU build of torch.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.paths import ROOT

BASE = "localhost/python:3.11-slim-bookworm"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
MISSING = [name for name in ("buildah", "debootstrap") if shutil.which(name) is None]

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="building an image needs root"),
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
    pytest.mark.timeout(3600),
]


class Buildah:
    """buildah with a store of its own, in a folder that the test removes."""

    def __init__(self, folder: Path) -> None:
        self.prefix = ["buildah", "--root", f"{folder}/store", "--runroot", f"{folder}/run"]
        self.prefix += ["--storage-driver", "vfs"]

    def __call__(self, *arguments: str) -> str:
        command = ["nice", *self.prefix, *arguments]
        return subprocess.run(
            command, check=True, stdout=subprocess.PIPE, text=True
        ).stdout.strip()


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Buildah, str]]:
    """A container of the image."""
    folder = tmp_path_factory.mktemp("image")
    rootfs, buildah = folder / "rootfs", Buildah(folder)
    packages = "python3,python3-pip,python3-venv,ca-certificates"
    make = ["debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", str(rootfs)]
    subprocess.run(["nice", *make], check=True, stdout=subprocess.DEVNULL)
    base = buildah("from", "scratch")
    buildah("add", "-q", base, str(rootfs), "/")
    buildah("commit", "-q", "--rm", base, BASE)
    shutil.rmtree(rootfs)
    binds = ["-v", f"{CERTIFICATES}:{CERTIFICATES}:ro"]
    if wheels := os.environ.get("PIP_FIND_LINKS"):
        binds += ["-v", f"{wheels}:{wheels}:ro", "--build-arg", f"PIP_FIND_LINKS={wheels}"]
    how = ["--isolation", "chroot", "--pull=never", "-f", str(ROOT / "cluster" / "Dockerfile")]
    buildah("bud", *how, *binds, "-t", "diffsweep:test", str(ROOT))
    yield buildah, buildah("from", "--pull=never", "diffsweep:test")
    buildah("rm", "--all")
    buildah("rmi", "--all", "--force")
    shutil.rmtree(folder)


def test_image_is_what_it_says(container: tuple[Buildah, str]) -> None:
    buildah, name = container

    def run(*command: str) -> str:
        return buildah("run", "--isolation", "chroot", name, "--", *command)

    assert "Usage: diffsweep" in run("diffsweep", "--help")
    assert run("id", "-u") == "1000"
    assert run("printenv", "RAY_AUTH_MODE") == "token"
    assert run("sh", "-c", "touch /opt/diffsweep/x 2>/dev/null || echo refused") == "refused"
    assert run("sh", "-c", "touch /var/lib/diffsweep/gcs/x && echo done") == "done"
    pins = versions((ROOT / "cluster" / "constraints.txt").read_text())
    installed = versions(run("pip", "freeze"))
    for package in ("ray", "torch", "mlflow", "optuna", "psycopg2-binary", "Flask-WTF"):
        assert installed[package].partition("+")[0] == pins[package]


def versions(text: str) -> dict[str, str]:
    """Versions by package, of lines such as ray==2.60.0."""
    return dict(line.split("==") for line in text.splitlines() if "==" in line)
