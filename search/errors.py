"""The errors that people see: one line for each fault, without a traceback."""

# DiffsweepError
# ├── BadInput      a spec, a flag, the data or the environment is not usable    exit code 2
# │   └── NoSearch  there is no search of that name
# ├── SearchFailed  the search itself could not do its work                      exit code 1
# │   ├── StorageAway   what must be kept could not be; it goes on at resume
# │   └── Fenced        another driver has taken the search over
# └── ReportFailed  the search is done, and its report could not be written      exit code 1

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


class SearchFailed(DiffsweepError):
    """Raised when a search ends because of an error that is not one trial's."""


class StorageAway(SearchFailed):
    """The storage did not come back in time. All is on disk here, and resume brings it there."""


class Fenced(SearchFailed):
    """Another driver writes this search's history; this one has to stop."""


class ReportFailed(DiffsweepError):
    """The search has ended, and its report could not be written."""


class NoSearch(BadInput):
    """There is no search of this name."""
