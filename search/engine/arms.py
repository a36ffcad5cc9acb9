"""Arms: optimizers that compete for the same trials, and whose turn it is to propose one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from search.engine.ladder import standings
from search.engine.sampler import Sampler
from search.engine.scheduler import Scheduler, build_scheduler
from search.history.book import Book, Trial
from search.spec.shelves import SAMPLERS
from search.spec.spec import SearchSpec

QUOTA = 4  # trials that adaptive allocation gives each optimizer before the sampler decides


@dataclass
class Arm:
    """All optimizers together, or with allocation `equal` one alone: a study and a bracket."""

    names: list[str]
    sampler: Sampler
    scheduler: Scheduler
    peers: list[Trial]  # the trials that compete here, in order; it grows

    def __post_init__(self) -> None:
        self.standings = standings(self.scheduler, self.peers)


@dataclass
class Arms:
    """All arms of a search, and the order in which they propose."""

    spec: SearchSpec
    book: Book

    def __post_init__(self) -> None:
        spec = self.spec
        equal = spec.allocation == "equal"
        groups = [[name] for name in spec.optimizers] if equal else [spec.optimizers]
        self.all = [self._build(names, equal) for names in groups]
        self.book.watchers.append(self._update)

    def _update(self, trial: Trial) -> None:
        if trial.stage == "search" and trial.optimizer in self.spec.space.optimizer:
            self.of(trial).standings.update(trial)

    def of(self, trial: Trial) -> Arm:
        """The arm that a trial belongs to."""
        return next(arm for arm in self.all if trial.optimizer in arm.names)

    def propose(self, number: int) -> dict[str, Any] | None:
        """What trial `number` is to try, by dimension; None when a grid has no more.

        The optimizer with the fewest trials comes first. Until each has its quota, and always
        with `equal`, that is the optimizer of the trial; then the sampler decides.
        """
        for name, arm in self._turns():
            chosen = self._draw(number, name, arm)
            if chosen is not None:
                return chosen
        return None

    def _turns(self) -> Iterator[tuple[str, Arm]]:
        for name in sorted(self.spec.optimizers, key=lambda name: len(self.book.of.get(name, ()))):
            yield name, next(arm for arm in self.all if name in arm.names)

    def _draw(self, number: int, name: str, arm: Arm) -> dict[str, Any] | None:
        """Have the arm's sampler propose; the first of an optimizer are spread over its ranges."""
        mine = self.book.of.get(name, [])
        known = [*self.book.imported, *arm.peers] if self.book.imported else arm.peers
        first = len(mine) < self._quota()
        earlier = sum(trial.optimizer == name for trial in self.book.imported)
        if len(mine) + earlier < self._quota() and not SAMPLERS[arm.sampler.kind].spreads:
            turn = sum(not trial.baseline for trial in mine)
            return arm.sampler.spread(number, known, name, turn, self._quota())
        given = first or self.spec.allocation == "equal"
        return arm.sampler.ask(number, known, name if given else None)

    def _quota(self) -> int:
        """Trials that each optimizer gets before a sampler learns from results."""
        return max(1, min(QUOTA, self.spec.budget.trials // len(self.spec.optimizers)))

    def _build(self, names: list[str], alone: bool) -> Arm:
        spec = self.spec
        study = f"{self.book.id}/{names[0]}" if alone else self.book.id
        kind, seed = spec.sampler.type, spec.sampler.seed
        budget = spec.budget.trials // (len(spec.optimizers) if alone else 1)
        sampler = Sampler(spec.space, names, kind, seed, spec.aims, study, budget)
        peers = self.book.of.setdefault(names[0], []) if alone else self.book.searched
        return Arm(names, sampler, build_scheduler(spec), peers)
