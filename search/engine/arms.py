"""Arms: optimizers that compete for the same trials, and whose turn it is to propose one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from search.engine.designs import mix
from search.engine.ladder import standings
from search.engine.sampler import Sampler
from search.engine.scheduler import Scheduler, build_scheduler
from search.history.book import Book, Group, Trial
from search.spec.shelves import SAMPLERS
from search.spec.spec import SearchSpec

QUOTA = 4  # trials that adaptive allocation gives each optimizer before the sampler decides


@dataclass
class Arm:
    """All optimizers together, or with allocation `equal` one search of one: study and bracket."""

    names: list[str]
    replicate: int
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
        self.equal = spec.allocation == "equal"
        alone = [([name], r) for r in range(spec.replicates) for name in spec.optimizers]
        groups = alone if self.equal else [(spec.optimizers, 0)]
        self.all = [self._build(names, replicate) for names, replicate in groups]
        self.book.watchers.append(self._update)

    def _update(self, trial: Trial) -> None:
        if trial.stage == "search" and trial.optimizer in self.spec.space.optimizer:
            arm = self.of(trial)
            arm.standings.update(trial)
            arm.sampler.update(trial)

    def of(self, trial: Trial) -> Arm:
        """The arm that a trial belongs to."""
        replicate = trial.replicate if self.equal else 0
        return next(
            arm for arm in self.all if trial.optimizer in arm.names and arm.replicate == replicate
        )

    def propose(self, number: int) -> tuple[dict[str, Any], int] | None:
        """What trial `number` is to try, by dimension, and for which replicate; None when a grid
        has no more.

        The optimizer with the fewest trials comes first. Until each has its quota, and always
        with `equal`, that is the optimizer of the trial; then the sampler decides.
        """
        for name, arm in self._turns():
            chosen = self._draw(number, name, arm)
            if chosen is not None:
                return chosen, arm.replicate
        return None

    def groups(self) -> list[Group]:
        """Every search of every optimizer."""
        return [(name, arm.replicate) for arm in self.all for name in arm.names]

    def _turns(self) -> Iterator[tuple[str, Arm]]:
        for group in sorted(self.groups(), key=lambda group: len(self.book.of.get(group, ()))):
            name, replicate = group
            arms = (arm for arm in self.all if name in arm.names and arm.replicate == replicate)
            yield name, next(arms)

    def _draw(self, number: int, name: str, arm: Arm) -> dict[str, Any] | None:
        """Have the arm's sampler propose; the first of an optimizer are spread over its ranges."""
        mine = self.book.of.get((name, arm.replicate), [])
        first = len(mine) < self._quota()
        earlier = sum(trial.optimizer == name for trial in self.book.imported)
        if len(mine) + earlier < self._quota() and not SAMPLERS[arm.sampler.kind].spreads:
            turn = sum(not trial.baseline for trial in mine)
            return arm.sampler.spread(number, name, turn, self._quota())
        return arm.sampler.ask(number, name if first or self.equal else None)

    def _quota(self) -> int:
        """Trials that each search of an optimizer gets before a sampler learns from results."""
        return max(1, min(QUOTA, self.spec.budget.trials // len(self.groups())))

    def _build(self, names: list[str], replicate: int) -> Arm:
        spec, several = self.spec, self.spec.replicates > 1
        study = f"{self.book.id}/{names[0]}" if self.equal else self.book.id
        kind, seed = spec.sampler.type, spec.sampler.seed
        searches = len(spec.optimizers) * spec.replicates if self.equal else 1
        if several:  # independent of the others: a seed and a study of its own
            study, seed = f"{study}/{replicate}", mix(seed, replicate) % 2**31
        budget = spec.budget.trials // searches
        sampler = Sampler(spec.space, names, kind, seed, spec.aims, study, budget)
        peers = self.book.searched
        if self.equal:
            peers = self.book.of.setdefault((names[0], replicate), [])
        for trial in (*self.book.imported, *peers):
            if trial.optimizer in names:
                sampler.update(trial)
        return Arm(names, replicate, sampler, build_scheduler(spec), peers)
