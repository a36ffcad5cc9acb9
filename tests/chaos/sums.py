"""What the rows of a campaign add up to, as a table for the docs."""

from __future__ import annotations

from collections import Counter
from typing import Any

VICTIMS = {
    "driver": "the driver",
    "trial": "a trial's process, or one of its workers",
    "node": "Ray's node process, or one of its agents",
    "host": "a second host, with all on it",
    "server": "the MLflow server",
    "s3": "the S3 server",
}


def sum_up(rows: list[dict[str, Any]]) -> str:
    """Strikes by victim, and the rest in a line."""
    struck = Counter((victim, way) for row in rows for victim, way in row["struck"])
    lines = ["| struck | killed | frozen |", "|---|---|---|"]
    for victim, words in VICTIMS.items():
        lines.append(f"| {words} | {struck[victim, 'kill']} | {struck[victim, 'freeze']} |")
    kills, freezes = (sum(n for (_, w), n in struck.items() if w == way) for way in WAYS)
    lines.append(f"| together | {kills} | {freezes} |")
    seeds, resumes = [row["seed"] for row in rows], sum(row["resumes"] for row in rows)
    wrong = [row["seed"] for row in rows if row["wrong"]]
    hours = sum(row["seconds"] for row in rows) / 3600
    lines += [
        "",
        f"{len(rows)} searches, seeds {min(seeds)} to {max(seeds)}, {resumes} resumes, "
        f"{hours:.1f} h; not whole: {', '.join(map(str, wrong)) or 'none'}",
    ]
    return "\n".join(lines)


WAYS = ("kill", "freeze")
