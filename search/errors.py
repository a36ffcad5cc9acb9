"""The errors of searches; their base, and that of bad input, are those of trainable."""

# DiffsweepError
# ├── BadInput      a spec, a flag, the data or the environment is not usable    exit code 2
# │   ├── NoSearch  there is no search of that name
# │   └── Unreadable    a history is damaged, or of another format
# ├── SearchFailed  the search itself could not do its work                      exit code 1
# │   ├── StorageAway   what must be kept could not be; it goes on at resume
# │   └── Fenced        another driver has taken the search over
# └── ReportFailed  the search is done, and its report could not be written      exit code 1

from __future__ import annotations

from trainable.base.errors import BadInput as BadInput
from trainable.base.errors import DiffsweepError as DiffsweepError


class SearchFailed(DiffsweepError):
    """Raised when a search ends because of an error that is not one trial's."""


class StorageAway(SearchFailed):
    """The storage did not come back in time. All is on disk here, and resume brings it there."""


class Fenced(SearchFailed):
    """Another driver writes this search's history; this one has to stop."""


class ReportFailed(DiffsweepError):
    """The search has ended, and its report could not be written."""


class Unreadable(BadInput):
    """A history can't be read: the message names its file and line."""


class NoSearch(BadInput):
    """There is no search of this name."""
