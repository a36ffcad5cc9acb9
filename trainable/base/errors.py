"""The errors that people see: one line for each fault, without a traceback."""

from __future__ import annotations


class DiffsweepError(Exception):
    """Base: its faults are shown as they are, a line each."""

    exit_code = 1

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class BadInput(DiffsweepError):
    """Raised before anything starts, when what was given can't be used."""

    exit_code = 2
