"""How many CPUs this process may use: those that are there, less what it is kept to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

CGROUPS, MINE = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def count_cpus() -> int:
    """CPUs by affinity (taskset, cpuset) and by the quota of a container, whichever is less.

    Of a quota with a fraction, the whole ones; at least one.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    cpus = float(len(affinity(0)) if affinity else os.cpu_count() or 1)
    return max(1, int(min([cpus, *quotas()])))


def quotas() -> Iterator[float]:
    """The CPUs that each control group of this process, and each group around it, may use."""
    try:
        lines = MINE.read_text().splitlines()
    except OSError:  # no Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        place = Path(path.lstrip("/"))
        for group in (place, *place.parents):
            roots = [CGROUPS / "cpu", CGROUPS / controllers] if controllers else [CGROUPS]
            yield from (found for root in roots if (found := quota(root / group)) is not None)


def quota(group: Path) -> float | None:
    """The quota of one group, as version 2 or 1 has it; None without one."""
    try:
        if (group / "cpu.max").exists():
            limit, period = (group / "cpu.max").read_text().split()
        else:
            limit = (group / "cpu.cfs_quota_us").read_text().strip()
            period = (group / "cpu.cfs_period_us").read_text().strip()
        return None if limit in ("max", "-1") else int(limit) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
