"""Which trial comes next: what was cut off, what has earned it, something new, a confirmation.

It knows neither Ray nor processes, so a replay runs the same decisions. All it decides, it decides
from the book: built on a history that already has events, it stands where their writer stood.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from search.engine.arms import Arm, Arms
from search.engine.budget import asked, out_of_time, reached
from search.engine.confirm import ask_event, finalists, owed
from search.engine.ladder import Held
from search.history.book import AT_WORK, Event, Trial
from search.history.log import History
from search.spec.space import baselines
from search.spec.spec import SearchSpec
from trainable.config import TrialConfig

# why no new trials of the search come, so that only winners are trained from here
NO_MORE = ("trials", "wall_clock", "gpu_hours", "confirm")


@dataclass
class Turns:
    """The order in which the trials of one search begin."""

    spec: SearchSpec
    history: History
    stopping: str | None = None  # why no new trials are proposed; "confirm": only confirm ones
    error: Exception | None = None  # the search can't go on
    stopwatch: Callable[[], float] = time.monotonic  # seconds, of silence
    active: set[int] = field(default_factory=set)  # trials that a process works on, or will
    heard: dict[int, float] = field(default_factory=dict)  # of those at work, when they last spoke
    losses: Counter[int] = field(default_factory=Counter)  # of processes, by trial
    over: bool = False  # nothing was left to begin when no trial was at work

    def __post_init__(self) -> None:
        spec, self.book = self.spec, self.history.book
        self.metric, self.mode = spec.aims[0]
        self.finalists = finalists(spec.confirm, spec.replicates)  # of each search of an optimizer
        self.arms = Arms(spec, self.book)
        self.held = Held(self.book.trials, self.metric, self.mode)
        for trial in self.book.searched:
            self.held.update(trial)
        self.book.watchers.append(self._hold)
        given = baselines(spec.space, spec.trial, spec.baselines)
        each = [(chosen, replicate) for replicate in range(spec.replicates) for chosen in given]
        self.baselines = each[: spec.budget.trials]
        self.cut = [
            trial.number
            for trial in self.book.trials.values()
            if (trial.state in ("pending", "running") or trial.again)
            and (self.stopping != "confirm" or trial.stage == "confirm")
        ]

    def _hold(self, trial: Trial) -> None:
        if trial.stage == "search":
            self.held.update(trial)

    def next(self) -> Trial | None:
        """The trial to run next, written down as such; None when there is none to begin now.

        First what was cut off or added by the user, then what has earned a promotion, then
        something new; at last, once nothing new comes, the best of each optimizer to its end, and
        the winners again.
        """
        idle = not self.active
        with self._together():
            self._look_at_the_clock()
            trial = (
                self._cut_off()
                or self._promoted()
                or self._proposed()
                or self._finisher()
                or self._confirmation()
            )
        if trial is not None:
            self.active.add(trial.number)
        self.over = idle and trial is None
        return trial

    def end(self, number: int, state: str, why: str | None, again: bool = False) -> bool:
        """Write how a trial ended, for now or for good. False: it does not go on."""
        self.active.discard(number)
        self.heard.pop(number, None)
        self._write("end", trial=number, state=state, why=why, again=again)
        return False

    def _look_at_the_clock(self) -> None:
        """End the search when its time is spent; what was cut off before waits for more of it."""
        confirming = self.stopping == "trials" and self.book.stage("confirm")
        if self.stopping not in (None, "trials") or confirming:
            return
        if (spent := self._out_of_time()) is None:
            return
        self._run_out_of(spent)
        mine = [number for number in self.cut if self.book.trials[number].stage == "search"]
        self.cut = [number for number in self.cut if number not in mine]
        for number in mine:
            if not self.book.trials[number].again:
                self._rest(number, spent)

    def _run_out_of(self, budget: str) -> None:
        """Begin no more trials of the search, unless the user has ended it already."""
        if self.stopping in (None, "trials"):
            self.stopping = budget

    def _rest(self, number: int, budget: str) -> bool:
        """Hold a trial back until there is more time. False: it does not go on."""
        return self.end(number, "paused", f"the budget of {budget} was spent", again=True)

    def _cut_off(self) -> Trial | None:
        """A trial that an earlier driver left unfinished, whose checkpoint knows how far it was;
        or one that the user added.
        """
        if not self.cut:
            return None
        return self.book.trials[self.cut.pop(0)]

    def _promoted(self) -> Trial | None:
        """A paused trial that has earned to go on since."""
        if self.stopping not in (None, "trials"):
            return None
        for arm in sorted(self.arms.all, key=self._spent_by):  # the one that got least comes first
            if (trial := arm.standings.promotable()) is not None:
                self._write("promote", trial=trial.number, full=False)
                return trial
        return None

    def _spent_by(self, arm: Arm) -> int:
        """Samples that an arm's trials have trained on."""
        return sum(self.book.spent[name, arm.replicate] for name in arm.names)

    def _proposed(self) -> Trial | None:
        """A new trial, while the budget lasts: baselines first, then what the samplers propose."""
        self.stopping = self.stopping or self._spent()
        if self.stopping:
            return None
        number, place = len(self.book.trials), asked(self.book)
        if place < len(self.baselines):  # the first is the "before" of every comparison
            chosen, replicate = self.baselines[place]
            return self._ask(number, chosen, replicate, baseline=True, full=place == 0)
        if (proposed := self.arms.propose(number)) is None:
            self.stopping = "trials"  # a grid has no more
            return None
        return self._ask(number, *proposed)

    def _finisher(self) -> Trial | None:
        """The best paused trial of an optimizer of which too few went or go to the end.

        That is one, or as many as compete to be confirmed. A default that ran in full by rule does
        not count: it says nothing of what was found.
        """
        if self.stopping != "trials":
            return None
        for group in self.arms.groups():
            through = sum(self._gets_there(trial) for trial in self.book.of.get(group, ()))
            if through < self.finalists and (held := self.held.first(group, 1)):
                self._write("promote", trial=held[0].number, full=True)
                return held[0]
        return None

    def _gets_there(self, trial: Trial) -> bool:
        """Whether a trial is at its end or under way, and tells what the search has found."""
        if trial.state == "complete":
            return not (trial.baseline and trial.full)
        return trial.state in AT_WORK or trial.number in self.active

    def _confirmation(self) -> Trial | None:
        """A confirm trial that is owed, of a winner that no other trial can replace any more."""
        if self.spec.confirm is None or self.stopping not in NO_MORE:
            return None
        for winner, seed in owed(self.book, self.spec.confirm):
            if self._is_settled(winner):
                event = self._write("ask", **ask_event(self.book, winner, seed))
                return self.book.trials[event["trial"]]
        return None

    def _is_settled(self, winner: Trial) -> bool:
        """Whether no trial at work competes with a winner, now that no new ones come.

        With `equal`, optimizers don't compete, so the first is confirmed while others still train.
        """
        if self.stopping == "confirm":
            return True
        assert self.spec.confirm is not None
        alone = self.spec.confirm.per == "optimizer"
        peers = self.arms.of(winner).peers if alone else self.book.searched
        return not any(t.number in self.active or t.state in AT_WORK for t in peers)

    def _spent(self) -> str | None:
        """The budget that is spent, if one is."""
        return reached(self.spec, self.book, self.history.clock())

    def _out_of_time(self) -> str | None:
        return out_of_time(self.spec, self.book, self.history.clock())

    def _write(self, event: str, **content: Any) -> Event:
        """Write an event down."""
        with self._held_up():
            return self.history.write(event, **content)

    @contextmanager
    def _together(self) -> Iterator[None]:
        """Decisions that are written down as one, before any of them is acted on."""
        self.history.gather()
        try:
            yield
        finally:
            with self._held_up():
                self.history.settle()

    @contextmanager
    def _held_up(self) -> Iterator[None]:
        """While writing is held up, no trial is thought to be silent."""
        began = self.stopwatch()
        yield
        held_up = self.stopwatch() - began
        for number in self.heard:
            self.heard[number] += held_up

    def _ask(
        self,
        number: int,
        chosen: dict[str, Any],
        replicate: int = 0,
        config: TrialConfig | None = None,
        baseline: bool = False,
        **marks: Any,
    ) -> Trial:
        """Write down a new trial. Marks: `full`, `added`, `request`."""
        config = config or self.spec.resolve(chosen)
        if self.spec.replicates > 1:
            marks["replicate"] = replicate
        self._write(
            "ask",
            trial=number,
            stage="search",
            chosen=chosen,
            config=config.model_dump(mode="json"),
            baseline=baseline,
            **marks,
        )
        return self.book.trials[number]
